"""The program `opscore` in processes of its own: help, commands and their words, refusals, completion."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.commands.cli import COMMANDS
from tests.places import ROOT, Place, called, child_environment


def opscore(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, called in `folder`, in which no store is; TensorFlow cannot be loaded."""
    program = "import sys; sys.modules['tensorflow'] = None\nfrom pipelines.commands.cli import main\nmain()"
    inherited = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder, env=inherited | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("run", "sweep")])
def test_prose_of_a_help_fits_80_columns(tmp_path: Path, name: str) -> None:
    lines = opscore(tmp_path, name, "--help").stdout.splitlines()
    # Commands keep theirs, as they are pasted.
    assert [line for line in lines if len(line) > 80 and not line.startswith("  opscore ")] == []


def test_help_lists_every_command_in_a_line(tmp_path: Path) -> None:
    shown = opscore(tmp_path, "--help").stdout
    lines = shown.splitlines()
    for name, sentence in COMMANDS.items():
        assert f"  {name.ljust(8)}  {sentence}" in lines
    for status in ("0 ", "1 ", "2 ", "130", "141"):
        assert any(line.startswith(f"  {status}") for line in lines), f"no status {status}"
    assert "_OPSCORE_COMPLETE=bash_source" in shown


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom pipelines.commands.cli import opscore\n"
        "with opscore.make_context('opscore', ['compare'], resilient_parsing=True) as context:\n"
        "    opscore.get_help(context)\n"
        "print([name for name in ('numpy', 'mlflow', 'tensorflow', 'hydra', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_command_help_is_shown_as_misuse(tmp_path: Path) -> None:
    done = opscore(tmp_path)
    assert done.returncode == 2 and "Commands:" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("run", "sweep")])
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    done = opscore(tmp_path, command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: opscore {command} ")
    assert "python -m" not in done.stdout


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_help_of_run_is_hydras(tmp_path: Path, command: str) -> None:
    done = opscore(tmp_path, command, "--help")
    assert done.returncode == 0 and "Choices (group=choice):" in done.stdout


@pytest.mark.parametrize("words", [("run",), ("sweep",), ()], ids=["run", "sweep", "plain"])
def test_words_of_run_go_to_hydra(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = opscore(tmp_path, *words, "technique=qat", "training.epochs=7", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "epochs: 7" in done.stdout and "quantize_aware.QuantizeAware" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("comapre --dataset digits", "got 'comapre': did you mean opscore compare?"),
        ("resnet50", "the command must be one of run, sweep, compare, "),
        ("compare --datset digits", "got '--datset': did you mean --dataset?"),
        ("compare datset=digits", "got 'datset=digits': did you mean dataset=digits?"),
        ("report --out", "option '--out' requires an argument: `opscore report --help` lists the options"),
        ("promote", "dataset must be given"),
        ("promote --dataset digits --margin 2", "margin must be a fraction"),
        ("promote --dataset a/b", "got 'a/b'"),
        ("measure no.tflite", "no.tflite"),
        ("rollback sweep=last", "with one of dataset, version, tracking.uri, got 'sweep=last'"),
        ("pull", "dataset must be given"),
        ("measure a.onnx", "files that end in .tflite, got 'a.onnx': name for example model.tflite"),
        ("measure {}", "name for example {}/*.tflite"),
        ("measure a.tflite --batches 8-32", "batches must be whole numbers, with commas between them, got '8-32': set"),
        ("compare model=vgg16", "choose cells with --filter 'tags.model = '\"'\"'vgg16'"),
        ("compare --into out.json", "got out.json: set for example --into out.csv"),
        ("compare --into no/out.csv", "into must be in a folder that is there, got no/out.csv: `mkdir -p no`"),
        ("run --dry-run model=vgg16", "unrecognized arguments: --dry-run: `opscore run --help` lists the options"),
        ("run --tracking.uri postgresql://h/db?a=b", "write 'tracking.uri=postgresql://h/db?a=b'"),
        ("compare --into .", "got .: set for example --into cells.csv"),
        ("run --verbose", "unrecognized arguments: --verbose: `opscore run --help` lists the options"),
        ("measure --profile slow", "profile must be one of quick, standard, thorough, got 'slow'"),
        ("measure a.tflite --sweep last", "either files or cells must be chosen"),
        ("compare --tracking-uri sqlit:///a.db", "got 'sqlit:///a.db'"),
        ("compare --tracking-uri sqlite:////nowhere/mlflow.db", "there is no tracking store at sqlite:////nowhere"),
        ("compare --tracking-uri sqlite:///{}/text.db", "cannot be opened ((sqlite3.DatabaseError) file is not a"),
        ("cache clean", "'clean' is not one of 'show', 'clear'"),
        ("server --port 50OO", "'50OO' is not a valid integer"),
        ("--cfgg job", "unrecognized arguments: --cfgg: did you mean --cfg?"),
        ("run --dataset digits", "overrides must be written without --, got --dataset: write dataset=digits"),
        ("sweep technique=baseline, qat", "overrides must hold no blanks, got 'technique=baseline, qat': write"),
        (
            "run training.epochs = 3",
            "overrides must hold no blanks, got 'training.epochs = 3': write training.epochs=3",
        ),
        ("help comapre", "got 'comapre': did you mean opscore compare?"),
        ("run dataset.name= ~model.width", "model.width must be given, got nothing"),
        ("sync nowhere", "Directory 'nowhere' does not exist"),
        ("server --port 80000", "80000 is not in the range"),
        ("server --workers 0", "0 is not in the range"),
        ("run technique=baseline,qat", "for a grid write `opscore sweep technique=baseline,qat`"),
        ("-m training.epochs=interval(1,3)", "training.epochs must be a list of values in a grid"),
        ("sweep technique=[baseline,qat]", "technique must be one choice"),
        ("measure send=", "send must be the folder of a session, got nothing: name one below measured/"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, words: str, sentence: str) -> None:
    (tmp_path / "text.db").write_text("This is no database, and long enough to be read as one.")
    # Which asks for no traceback.
    done = opscore(tmp_path, *words.replace("{}", str(tmp_path)).split(), HYDRA_FULL_ERROR="0")
    assert sentence.replace("{}", str(tmp_path)) in done.stderr
    assert done.stderr.startswith("opscore: ") and len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(tmp_path.glob("mlruns*"))


@pytest.mark.parametrize("words", ["--help", "run --help"])
def test_reader_that_goes_away_is_silent(words: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m pipelines {words} | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=child_environment(""), capture_output=True, text=True, check=False
    )
    assert done.stderr == "" and done.returncode == 141


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a finished grid, which the program ran."""
    place = Place(tmp_path_factory.mktemp("store"))
    words = place.command("sweep.isolation=inline", "technique=baseline,quantize_dynamic", "training.epochs=1")[4:]
    done = place.opscore("sweep", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.slow
def test_inline_runs_all_cells_in_one_process(place: Place) -> None:
    cells = place.cells()
    assert len(cells) == 2 and len({run.data.tags["opscore.process"] for run in cells}) == 1
    assert not list(place.folder.glob("out/*/cell.log"))


@pytest.mark.slow
def test_sweep_is_a_grid(place: Place) -> None:
    (sweep,) = place.sweeps()
    assert sweep.data.metrics["cells/done"] == 2


@pytest.mark.slow
def test_options_and_words_choose_the_same_cells(place: Place) -> None:
    options = place.opscore("compare", "--dataset", "digits", "--sweep", "last", "--experiment", "mine")
    words = place.opscore("compare", "dataset=digits", "sweep=last", "experiment=mine")
    assert options.returncode == 0, options.stderr
    assert "quantize_dynamic" in options.stdout
    assert options.stdout == words.stdout
    refused = place.opscore("compare", "--filter", "params.seed = 0", "--experiment", "mine")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "got 'params.seed = 0'" in refused.stderr and "--filter \"params.seed = '0'\"" in refused.stderr
    nothing = place.opscore("compare", "--filter", "tags.technique = 'qat'", "--experiment", "mine")
    assert (nothing.returncode, len(nothing.stderr.splitlines())) == (1, 1)
    assert "matches filter=tags.technique = 'qat' experiment=mine: run one" in nothing.stderr


@pytest.mark.slow
def test_tables_fit_the_terminal_unless_they_shall_not(place: Place) -> None:
    variables = child_environment(place.uri) | {"COLUMNS": "80"}
    words = ("pipelines", "compare", "--experiment", "mine")
    narrow, wide = (called(*words, *more, cwd=place.folder, variables=variables).stdout for more in ((), ("--wide",)))
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))
    assert "more columns: --wide)" in narrow and "more columns" not in wide


@pytest.mark.slow
def test_a_cell_goes_into_operation_and_back(place: Place) -> None:
    chosen = ("--dataset", "digits", "--experiment", "mine")
    dry = place.opscore("promote", *chosen, "--sweep", "last", "--dry-run")
    assert dry.returncode == 0 and "nothing was changed" in dry.stdout, dry.stderr
    for technique in ("baseline", "quantize_dynamic"):
        limits = ("--max-drop", "0.5", "--margin", "0.02")
        done = place.opscore("promote", *chosen, "--filter", f"tags.technique = '{technique}'", "--anew", *limits)
        assert done.returncode == 0, done.stderr
    back = place.opscore("rollback", "--dataset", "digits")
    assert "Version 1 of opscore-digits is champion again" in back.stdout, back.stderr
    pulled = place.opscore("pull", "--dataset", "digits", "--out", "champion")
    assert pulled.returncode == 0 and (place.folder / "champion" / "model.tflite").is_file(), pulled.stderr


@pytest.mark.slow
def test_report_and_cached_images(place: Place) -> None:
    done = place.opscore("report", "--experiment", "mine", "--sweep", "last", "--out", "page")
    assert done.returncode == 0 and (place.folder / "page" / "report.html").is_file(), done.stderr
    assert "sweep=last" in (place.folder / "page" / "report.html").read_text()
    assert "are taken in" in place.opscore("cache").stdout
    assert place.opscore("sync", str(place.folder)).stdout == "0 cells sent\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["co"], ["compare "]),
        (["compare", "--d"], ["--dataset "]),
        (["run", "model", "=", "res"], ["resnet101 ", "resnet50 "]),
        (["sweep", "technique", "=", "qat,baseline", "training.ep"], ["training.epochs="]),
        (["run", "technique", "=", "nonsense", "training.ep"], []),
        (["run", "--cfg"], []),
        (["run", "tracking.uri", "=", "http", ":", "//127.0.0.1", ":", "5000", "training.ep"], ["training.epochs="]),
        (["run", "dataset", "=", "folder", "dataset.path", "=", "/usr/shar"], ["/usr/share/"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], offered: list[str]) -> None:
    """Bash splits `model=res` into three words."""
    (tmp_path / "opscore").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines "$@"\n')
    (tmp_path / "opscore").chmod(0o755)
    script = f"""
eval "$(_OPSCORE_COMPLETE=bash_source opscore)"
COMP_WORDS=(opscore {" ".join(words)}); COMP_CWORD={len(words)}
_opscore_completion opscore
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    inherited = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", script], env=inherited, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line] == offered, done.stderr
