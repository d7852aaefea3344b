from pipelines.comparison import article
from tests.comparison.recorded import compared, recorded


def test_marks_and_claims_of_the_article() -> None:
    comparison = compared(
        recorded("baseline"),
        # Time: 0.7 to 0.8 of the testing time and the same training, together 0.84 to 0.89.
        recorded("quantize_int8", megabytes=0.25, ratio=(0.7, 0.8)),
        # Three seconds of training more and the same testing time.
        recorded("cluster", megabytes=0.4, accuracy=0.6, p_value=0.001, ratio=(0.99, 1.01), train_s=13.0, own_s=3.0),
        # A tenth of the training time makes up for 1.3 times the testing time.
        recorded("transfer", accuracy=0.9, p_value=0.01, ratio=(1.2, 1.3), train_s=1.0, own_s=1.0),
    )
    assert article.table(comparison).splitlines() == [
        "model  technique      accuracy  training  testing  time  size  better in",
        "vgg16  quantize_int8         =         =        +     +     +        2-D",
        "vgg16  transfer              +         +        -     +     =        2-D",
        "vgg16  cluster               -         -        =     -     +        1-D",
    ]
    found = " ".join(article.claims([comparison.entries]))
    assert "quantization is best in several dimensions holds here: it improves two or more in 1 of 1 cell" in found
    assert "weight clustering is useful in two dimensions does not hold here: in 0 of 1 cell" in found
    assert "transfer learning is useful in two dimensions holds here: in 1 of 1 cell" in found


def test_marks_do_not_depend_on_the_weights_of_the_score() -> None:
    # A profile without the size: the files differ by a factor of 4 all the same.
    cells = [recorded("quantize_int8", megabytes=0.25, params={"score.size": "0", "score.test_time": "0"})]
    (entry,) = compared(*cells).entries
    assert entry.marks["size"] == "better" and entry.marks["test_time"] == "better"
    # Time is as the score weighs it: training alone, which was the same.
    assert entry.marks["time"] == "tied"


def test_unknown_training_time_has_no_mark() -> None:
    comparison = compared(recorded("quantize_int8", train_s=None))
    row = article.table(comparison).splitlines()[1]
    assert row.split() == ["vgg16", "quantize_int8", "=", "?", "+", "+", "=", "1-D"]


def test_three_seeds_show_how_far_the_training_time_scatters() -> None:
    # 0.85 to 0.87 of the baseline's time: within the noise of one training, beyond that of these three.
    cells = [recorded("distill", seed=n, train_s=8.5 + n / 10, own_s=8.5 + n / 10) for n in range(3)]
    assert compared(*cells[:1]).entries[0].marks["train_time"] == "tied"
    assert compared(*cells).entries[0].marks["train_time"] == "better"


def test_claims_on_other_models_are_not_tested() -> None:
    int8, cluster = recorded("quantize_int8", megabytes=0.2), recorded("cluster", megabytes=0.4, model="resnet50")
    told = article.claims(
        [compared(recorded("baseline"), recorded("baseline", model="resnet50"), int8, cluster).entries]
    )
    assert told[0].endswith("that takes quantized cells and clustered or transferred ones of one model and dataset.")


def test_claims_without_their_cells_are_not_tested() -> None:
    assert all("cannot be tested" in one for one in article.claims([compared(recorded("baseline")).entries]))


def test_cells_that_do_not_compare_are_no_pair() -> None:
    int8, cluster = recorded("quantize_int8", megabytes=0.2), recorded("cluster", digest="others")
    told = article.claims([compared(int8).entries, compared(cluster).entries])
    assert told[0].endswith("that takes quantized cells and clustered or transferred ones of one model and dataset.")
    assert " on 1 of 1 pairs" in article.claims([[*compared(int8).entries, *compared(cluster).entries]])[0]
