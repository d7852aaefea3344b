from pipelines.comparison import article
from tests.comparison.recorded import compared, recorded


def test_marks_and_claims_of_the_article() -> None:
    comparison = compared(
        recorded("baseline"),
        recorded("quantize_int8", megabytes=0.25, ratio=(0.7, 0.8)),
        recorded("cluster", megabytes=0.4, accuracy=0.6, p_value=0.001, ratio=(0.99, 1.01)),
        recorded("transfer", accuracy=0.9, p_value=0.01, ratio=(1.2, 1.3), train_s=1.0),
    )
    assert article.table(comparison).splitlines()[2:] == [
        "| vgg16 | quantize_int8 | = | + | + | 2-D |",
        "| vgg16 | cluster | - | = | + | 1-D |",
        "| vgg16 | transfer | + | - | = | 1-D |",
    ]
    found = article.claims([comparison])
    assert "quantization is best in several dimensions holds here: it improves two or more in 1 of 1 cells" in found
    assert "weight clustering is useful in two dimensions does not hold here: in 0 of 1 cells" in found
    assert "transfer learning is useful in two dimensions does not hold here" in found


def test_claims_without_their_cells_are_not_tested() -> None:
    assert article.claims([compared(recorded("baseline"))]).count("cannot be tested") == 3
