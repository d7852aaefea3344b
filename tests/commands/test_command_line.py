"""What people type: mistyped names, odd characters, grids as cells and cells as grids, each by the command itself."""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipelines.execution import overrides
from pipelines.system.guard import MisuseError
from tests.places import ROOT, Place, called, until


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, called in `folder`, in which no store is; TensorFlow cannot be loaded."""
    program = "import sys; sys.modules['tensorflow'] = None\nfrom pipelines.commands.run import main\nmain()"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("model.inputsize=3", "did you mean model.input_size=3?"),
        ("epochs=3", "did you mean training.epochs=3?"),
        ("dataset.path=TT", "write dataset=folder dataset.path=TT"),
        ("dataset=folder dataset.path=~t", "got '~t' by default: set dataset.name=t"),
        ("modle=vgg16", "did you mean model=vgg16?"),
        (
            "--experiment smoke technique=qat",
            "overrides must be written without --, got --experiment: write experiment",
        ),
        ("model.weights=~old.keras", "model.weights must be a file that exists, got"),
        ("model=resnet5", "did you mean model=resnet50?"),
        ("technique=quantise_int8", "did you mean technique=quantize_int8?"),
        ("+model.x=3", "model.x is no field of model"),
        (
            "technique=prune_filters_quantize_mixed technique.max_drop=0.1",
            "technique.max_drop is no field of this chain: did you mean technique.steps.quantize.max_drop=0.1?",
        ),
        (
            "-m technique=quantize_int8,baseline technique.sensitivity=true",
            "technique.sensitivity is a field of technique=quantize_int8 and not of technique=baseline",
        ),
        ("++training.epoch=3", "did you mean training.epochs?"),
        ("hydra.sweep.dirr=x", "did you mean hydra.sweep.dir=x?"),
        ("hydra.launcher.n_jobs=4", "write hydra/launcher=joblib hydra.launcher.n_jobs=4"),
        pytest.param(
            "hydra/launcher=ray_cluster",
            "hydra/launcher=ray_cluster is not installed: pip install 'opscore[ray]'",
            marks=pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed"),
        ),
        ("hydra.launcher.no_jobs=4", "hydra.launcher.no_jobs is no field of the configuration"),
        ("--info compatibility model=resnet5", "did you mean model=resnet50?"),
        ("--info compatibility model.inputsize=3", "did you mean model.input_size=3?"),
        (
            "model=small_cnn seed=0 --overrides seed=3",
            "seed is a parameter of the entry point and must not be in overrides, got seed=3: write -P seed=3",
        ),
        (
            "model=small_cnn --overrides experiment=smoke",
            "overrides must not hold a study, got experiment=smoke, as the entry point's parameters replace its values"
            ": run `opscore run experiment=smoke`",
        ),
        ("seed=1.5", "seed must be a whole number of at least 0, got 1.5"),
        ("training.epochs=null", "training.epochs must be a whole number of at least 1, got None"),
        ("model=null", "model must be one of"),
        ("sweep.timeout_s=60", "for a single cell: run `opscore sweep sweep.timeout_s=60`, or leave it out"),
        ("sweep={timeout_s:60}", "for a single cell: run `opscore sweep 'sweep={timeout_s:60}'`, or leave it out"),
        ("+data=/mnt", "data is no field of the configuration"),
        ("~dataset", "dataset must be chosen, got None: leave it out for the default"),
        ("+dataset=folder", "must be chosen without a plus, got +dataset=folder: write dataset=folder"),
        ("hydra.job.chdir=true", "hydra.job.chdir must be false, as paths are relative to the folder of the command"),
        ("-m hydra.job.chdir=true seed=0,1", "hydra.job.chdir must be false"),
        ("-m model=keras_file model.path=glob(*.keras)", "model.path must match at least one file or folder"),
        ("~seed", "seed must be given, got nothing: leave ~seed out"),
        ("~tracking", "tracking must be given, got nothing: leave ~tracking out"),
        ("-m ~sweep.threads seed=0,1", "sweep.threads cannot be taken out: leave ~sweep.threads out"),
        ("~data_dir", "data_dir cannot be taken out: leave ~data_dir out"),
        ("--info compatible", "--info must be one of compatibility, all, "),
        ("--info compatible", "got 'compatible': write for example --info compatibility"),
        ("--info compatibility model=vgg16,vgg19", "as one cell is shown, got vgg16,vgg19: name one of them"),
        ("technique=transfer", "set model.weights to a checkpoint.keras of this model, or set technique=baseline"),
        ("technique=transfer model=vgg16 model.weights=null", "set model.weights to imagenet or a checkpoint.keras"),
        (
            "seed=${oc.env:NO_SEED}",
            'seed must refer to what is there, got KeyError raised while resolving interpolation: "Environment '
            "variable 'NO_SEED' not found\": `export NO_SEED=` a value before, or write ${oc.env:NO_SEED,default}",
        ),
        ("-m seed=${nope} training.epochs=1,2", "none of the 2 cells can run: seed must refer to what is there, got"),
        ("-m ~seed training.epochs=1,2", "seed must be given, got nothing: leave ~seed out"),
        ("dataset=npz dataset.path=${HOME}/x.npz", "dataset.path must refer to what is there, got Interpolation key"),
        ("dataset=npz dataset.path=${HOME}/x.npz", ": write ${oc.env:HOME} for the variable of the environment"),
        ("dataset.split_seed=${sed}", "dataset.split_seed must refer to what is there, got Interpolation key 'sed'"),
        ("~model.width", "model.width must be given, got nothing: set for example model.width=1"),
        ("tracking.uri=sqlite:////etc/passwd/mlflow.db", "and in /etc/passwd nothing can be made: set tracking.uri="),
        (
            "-m tracking.uri=sqlite:////etc/passwd/mlflow.db",
            "and in /etc/passwd nothing can be made: set tracking.uri=",
        ),
        ("technique=[baseline,qat]", "for a grid write `opscore sweep technique=baseline,qat`"),
        ("technique=baseline,qat", "for a grid write `opscore sweep technique=baseline,qat`"),
        (
            "model=vgg16 technique=baseline,qat seed=1",
            "for a grid write `opscore sweep model=vgg16 technique=baseline,qat seed=1`",
        ),
        ("technique=baseline,qat --cfg job", "technique must be one value, as one cell is shown, got baseline,qat"),
        ("technique=[baseline,qat] --cfg job", "one cell is shown, got [baseline,qat]: name one of them"),
        ("-m experiment=smoke technique.epochs=2", "and not of technique=baseline"),
        ("-m technique=cluster,baseline technique.epochs=null", "technique.epochs is no field of technique"),
        ("technique=distill model@technique.source.model=vgg17", "did you mean model@technique.source.model=vgg19?"),
        (
            "hydra/sweeper=pareto -m technique=cluster technique.epochs=choice(5)",
            "at least one override must be drawn from",
        ),
        ("experiment=article_efficientnet", "dataset=cifar10 model=efficientnet_lite0 for one cell"),
        # A grid's own choices have these fields, and those that are composed without it may lack them.
        *(
            (f"-m {words} dataset=npz dataset.path=absent.npz", "dataset.path must name an existing .npz file")
            for words in (
                "model=resnet50,vgg16 model.weights=null",
                "technique=distill model@technique.source.model=resnet50,vgg16 technique.source.model.weights=null",
                "technique=distill model@technique.source.model=resnet50,vgg16 technique.source.model.dropout=0.1",
                "experiment=article technique=cluster,qat technique.epochs=2",
            )
        ),
        ("dataset=cifar10 dataset.url=https://me:pw@mirror/c.tar.gz", "dataset.url must hold no user and no password"),
        ("training.epochs=[1", "training.epochs must be a value that Hydra can parse"),
        ("resnet50", "arguments must be name=value, got 'resnet50'"),
        ("experiment=smoke", "run `opscore sweep experiment=smoke`, or fix "),
        (
            "experiment=smoke hydra/launcher=joblib",
            "run `opscore sweep hydra/launcher=joblib experiment=smoke`, or fix ",
        ),
        ("-m experiment=smoke,cpu_study", "run one after the other, `opscore sweep experiment=smoke &&"),
        ("-m training.epochs=interval(1,3)", "training.epochs must be a list of values in a grid"),
        (
            "-m hydra/sweeper=pareto technique=cluster technique.clusters=interval(9,3)",
            "an interval must run from a lower to a higher number, got 9.0 to 3.0",
        ),
        (
            "-m hydra/sweeper=pareto hydra.sweeper.n_trials=abc technique=qat,cluster",
            "hydra.sweeper.n_trials must be a whole number from 1 to 4294967295, got 'abc'",
        ),
        (
            "-m hydra/sweeper=pareto technique=qat,cluster dataset=folder dataset.path=/no/photos",
            "dataset.path must name an existing folder, got /no/photos",
        ),
        ("-m technique=glob(nothing*)", "technique must match at least one choice"),
        ("tracking.experiment=null", "tracking.experiment must be a name, got None: set for example"),
        (
            "-m hydra.sweeper.max_batch_size=0",
            "max_batch_size must be a whole number of at least 1, got 0",
        ),
        (
            "-m hydra/launcher=joblib hydra.launcher.n_jobs=0",
            "n_jobs must be a number of cells at a time",
        ),
        ("technique._target_=nowhere.Own", "technique._target_ must be a class that can be imported"),
        ("dataset=folder dataset.path=/no/(1)", "dataset.name must be a name of letters"),
        ("dataset=folder dataset.path=/no/photos", "dataset.path must name an existing folder, got /no/photos"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, arguments: str, sentence: str) -> None:
    done = run(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("mlruns*"))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("technique=mine training.epoch=3", "training.epochs=3"),
        ("--info compatibility technique=mien", "technique=mine"),
    ],
)
def test_mistake_next_to_a_choice_of_ones_own_is_named(tmp_path: Path, words: str, meant: str) -> None:
    (tmp_path / "own/technique").mkdir(parents=True)
    shutil.copy(ROOT / "conf/technique/baseline.yaml", tmp_path / "own/technique/mine.yaml")
    done = run(tmp_path, "--config-dir", str(tmp_path / "own"), *words.split())
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"did you mean {meant}?" in done.stderr


@pytest.mark.parametrize("grid", [[], ["-m"]])
@pytest.mark.parametrize("content", ["_target: mine.Mine\n", ""])
def test_a_choice_of_ones_own_without_a_class_is_named(tmp_path: Path, content: str, grid: list[str]) -> None:
    (tmp_path / "own/technique").mkdir(parents=True)
    (tmp_path / "own/technique/mine.yaml").write_text(content)
    done = run(tmp_path, *grid, "--config-dir", str(tmp_path / "own"), "technique=mine")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "technique" in done.stderr and "Traceback" not in done.stderr and "AttributeError" not in done.stderr


@pytest.mark.parametrize("grid", [[], ["-m"]])
def test_a_study_without_its_first_line_is_refused(tmp_path: Path, grid: list[str]) -> None:
    words = own_study(tmp_path, "technique: cluster,prune")
    (tmp_path / "own/experiment/mine.yaml").write_text("training:\n  epochs: 40\n")
    done = run(tmp_path, *grid, *words)
    assert done.returncode == 2
    assert "a study must begin with the line `# @package _global_`, got one without" in done.stderr


def test_a_grid_is_checked_by_the_configuration_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.yaml").write_text("defaults:\n  - config\n  - override technique: cluster\n  - _self_\n")
    words = ["--config-dir", str(tmp_path / "own"), "--config-name", "mine", "technique.epochs=0", "seed=0,1"]
    done = run(tmp_path, "-m", *words)
    assert done.stderr.startswith("opscore: none of the 2 cells can run: technique.epochs must be a whole number")


def own_study(folder: Path, params: str) -> list[str]:
    """Words that choose a study of one's own, a grid over `params`."""
    (folder / "own/experiment").mkdir(parents=True)
    study = f"# @package _global_\nhydra:\n  sweeper:\n    params:\n      {params}\n"
    (folder / "own/experiment/mine.yaml").write_text(study)
    return ["--config-dir", str(folder / "own"), "experiment=mine"]


def test_a_study_that_refers_to_what_it_varies_is_refused(tmp_path: Path) -> None:
    words = own_study(tmp_path, "seed: 1,2\n      dataset.path: photos${seed}")
    done = run(tmp_path, "-m", *words, "dataset=folder")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    mend = "dataset.path of a study's file must be resolved in each cell, got photos${seed}: write photos\\${seed}"
    assert mend in done.stderr
    study = tmp_path / "own/experiment/mine.yaml"
    study.write_text(study.read_text().replace("${", "\\${"))
    done = run(tmp_path, "-m", *words, "dataset=folder")
    assert "photos1:" in done.stderr and "photos2:" in done.stderr


def test_a_varied_study_must_not_enter_another_folder(tmp_path: Path) -> None:
    words = own_study(tmp_path, "")
    (tmp_path / "own/experiment/mine.yaml").write_text("# @package _global_\nhydra:\n  job:\n    chdir: true\n")
    done = run(tmp_path, "-m", *words[:-1], "experiment=null,mine")
    assert done.returncode == 2 and "hydra.job.chdir must be false" in done.stderr


def test_fields_of_what_a_study_varies_are_taken(tmp_path: Path) -> None:
    words = own_study(tmp_path, "technique: cluster,prune")
    done = run(tmp_path, "-m", *words, "technique.epochs=0")
    assert done.stderr.startswith("opscore: none of the 2 cells can run: technique.epochs must be a whole number")


def test_text_that_looks_like_a_number_stays_one(tmp_path: Path) -> None:
    words = own_study(tmp_path, "dataset: folder,npz")
    done = run(tmp_path, "-m", *words, "dataset.path=2024")
    assert done.stderr.startswith("opscore: none of the 2 cells can run:"), done.stderr
    assert "must name an existing folder, got 2024" in done.stderr and "must be a text" not in done.stderr


def test_study_of_a_range_as_a_cell_gets_a_mend_that_works(tmp_path: Path) -> None:
    done = run(tmp_path, *own_study(tmp_path, "seed: range(2,4)"))
    assert done.returncode == 2 and "or fix seed=2 for one cell" in done.stderr


def test_searchpath_serves_a_grid(tmp_path: Path) -> None:
    own_study(tmp_path, "technique: cluster,prune")
    search = f"hydra.searchpath=[file://{tmp_path}/own]"
    done = run(tmp_path, "-m", search, "experiment=mine", "technique.epochs=0")
    assert done.stderr.startswith("opscore: none of the 2 cells can run: technique.epochs must be a whole number")


def test_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    words = own_study(tmp_path, "technique: cluster: prune")
    for command in (words, ["-m", *words]):
        done = run(tmp_path, *command)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "must be YAML" in done.stderr and "line 5" in done.stderr


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("dataset.path=/data/my=photos", "/data/my=photos"),
        ("dataset.path=/data/photos (1)", "/data/photos (1)"),
        ("dataset.path=/data/[old]", "/data/[old]"),
        ("dataset.path=2024", "2024"),
        ("dataset.name=2024_10", "2024_10"),
        ("dataset.path=fotos/Übung", "fotos/Übung"),
        ("dataset.path=/data/it's", "/data/it's"),
        ('dataset.path=/data/a "b"', '/data/a "b"'),
        ("dataset.path=~/photos", str(Path("~/photos").expanduser())),
        ("tracking.experiment=früh & spät", "früh & spät"),
        ("model.weights=C:\\weights\\a.h5", "C:\\weights\\a.h5"),
    ],
)
def test_texts_need_no_quotes_of_hydra(word: str, value: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(overrides.parsed(word)).value() in (
        value,
        value.replace("\\", "\\\\"),
    )


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dataset.path=~/a,~/b", f"dataset.path={Path.home()}/a,{Path.home()}/b"),
        ("dataset.path=köpek,kedi", 'dataset.path="köpek","kedi"'),
        ('dataset.path="köpek","kedi"', 'dataset.path="köpek","kedi"'),
        ("dataset.path=2023,2024", 'dataset.path="2023","2024"'),
        ("dataset.path=a, 1e3,true,'4,5'", "dataset.path=a, 1e3,true,'4,5'"),
        ("dataset.path=a, 1e3,true,'5'", 'dataset.path=a,"1e3","true",\'5\''),
        ("model.weights=null,imagenet,7", 'model.weights=null,imagenet,"7"'),
        ("training.epochs=1,2", "training.epochs=1,2"),
    ],
)
def test_texts_of_a_grid_need_no_quotes_either(word: str, expected: str) -> None:
    assert overrides.parsed(word, multirun=True) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("word", ["dataset.path={a", "dataset.path='half", "training.epochs=[1", "dataset.path=a,${b"])
def test_offered_form_survives_the_shell(shell: str, word: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    with pytest.raises(MisuseError) as refused:
        overrides.parsed(word)
    offered = str(refused.value).rpartition("write ")[2]
    printed = subprocess.run([shell, "-c", f"printf %s {offered}"], capture_output=True, text=True, check=True).stdout
    assert overrides.parsed(printed) == printed
    assert shlex.split(offered) == [printed]


@pytest.mark.slow
def test_glob_and_range_make_a_grid(tmp_path: Path) -> None:
    place = Place(tmp_path)
    # And settings that no other command of the tests changes.
    training = (
        "optimizer=sgd",
        "learning_rate=0.01",
        "fine_tuning_epochs=1",
        "fast_convolutions=false",
        "adapt_batch_norm=false",
    )
    others = (
        "dataset.split_seed=1",
        "dataset.test_fraction=0.3",
        "measurement.threads=2",
        "measurement.warmup_calls=2",
    )
    settings = (*(f"training.{one}" for one in training), *others)
    done = place.run("-m", "technique=glob(quantize_f*)", "seed=range(0,2)", "training.epochs=1", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    (run, *_) = place.cells()
    given = dict(one.split("=") for one in settings)
    assert {name: run.data.params[name].lower() for name in given} == given
    assert "2 cells, in" in done.stdout and "[2/2]" in done.stdout
    assert {run.data.tags["seed"] for run in place.cells("tags.technique = 'quantize_float16'")} == {"0", "1"}


@pytest.mark.slow
def test_a_terminated_sweep_of_a_script_closes_its_cell(tmp_path: Path) -> None:
    """A shell that is not interactive lets what it starts with `&` ignore SIGINT."""
    place = Place(tmp_path)
    command = place.command("-m", "technique=baseline", "training.epochs=3000", "training.patience=3000")
    with (tmp_path / "out.txt").open("w") as out:
        started = subprocess.Popen(
            ["bash", "-c", 'trap "" INT; exec "$@"', "script", *command],
            cwd=ROOT,
            env=place.environment(),
            stdout=out,
            stderr=out,
        )
    until(lambda: any("epoch 2 of" in log.read_text() for log in tmp_path.rglob("cell.log")))
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=60) == 130
    assert {run.info.status for run in place.all()} == {"KILLED"}
    (cell,) = place.cells()
    # It has closed its run itself.
    assert "without closing" not in cell.data.tags.get("failure", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_is_one_line_and_closes_the_run(tmp_path: Path, number: signal.Signals) -> None:
    place = Place(tmp_path)
    started = place.start("technique=baseline", "training.epochs=3000", "training.patience=3000")
    until(lambda: "epoch 2 of" in (tmp_path / "out.txt").read_text())
    started.send_signal(number)
    assert started.wait(timeout=60) == 130
    written = (tmp_path / "out.txt").read_text()
    assert written.count("opscore: interrupted") == 1 and "Traceback" not in written
    (run,) = place.cells()
    assert run.info.status == "KILLED"


def test_interrupt_hidden_in_another_error_kills_the_run(tmp_path: Path) -> None:
    place = Place(tmp_path)
    started = place.start("technique=baseline", "technique._target_=tests.own_faults.Interrupted")
    assert started.wait(timeout=120) == 130, (tmp_path / "out.txt").read_text()
    assert [run.info.status for run in place.cells()] == ["KILLED"]


@pytest.mark.parametrize("stage", ["load", "build", "train", "verify"])
def test_fault_of_a_users_own_class_is_one_sentence_and_a_log(tmp_path: Path, stage: str) -> None:
    place = Place(tmp_path)
    target = {
        "load": "dataset._target_=tests.own_faults.Data",
        "build": "model._target_=tests.own_faults.Network",
        "train": "technique._target_=tests.own_faults.Training",
        "verify": "technique._target_=tests.own_faults.Checking",
    }[stage]
    began = time.monotonic()
    done = place.run("technique=baseline", target)
    assert done.returncode != 0, began
    assert "Traceback" not in done.stdout + done.stderr
    assert f"KeyError: 'a fault in {stage}'; the traceback is in " in done.stderr
    log = Path(done.stderr.partition("the traceback is in ")[2].splitlines()[0])
    assert "own_faults.py" in log.read_text()
    if stage == "load":
        _, _, *words = place.command("technique=baseline", target, out="traced")
        variables = place.environment(HYDRA_FULL_ERROR="1")
        traced = called(*words, cwd=ROOT, variables=variables, loaded=False).stderr
        assert "Traceback" in traced and "own_faults.py" in traced


def test_shift_out_of_sight_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "dataset.max_shift=8")
    assert done.returncode == 2
    assert "dataset.max_shift must be less than the 8 pixels of an image's side, got 8: set for example" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "technique=layer_transfer model@technique.source.model=resnet50 technique.source.model.weights=null",
            "technique.match must pair layers of small_cnn with the source's, got",
        ),
        (
            "technique=layer_transfer technique.freeze=always model@technique.source.model=small_cnn "
            "technique.source.model.dropout=0.1",
            "technique.freeze=always leaves nothing of small_cnn to train",
        ),
        ("technique=cqat technique.steps.cluster.skip=.", "cluster found no kernel to cluster with clusters 16"),
        ("technique=prune_filters technique.fraction=0.001", "prune_filters found no filter to remove with fraction"),
    ],
    ids=["donor", "freeze", "chain", "filters"],
)
def test_settings_that_do_not_suit_the_network(words: str, message: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run(*words.split())
    assert done.returncode != 0
    assert message in done.stderr
    assert "training for" not in done.stdout
    assert len(place.cells()) == 1, "no baseline was begun"


def test_mistyped_argument_of_a_reader(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "compare", "datset=digits"]
    done = subprocess.run(
        command, cwd=ROOT, env=Place(tmp_path).environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "did you mean dataset=digits?" in done.stderr
