"""What is wrong on a command line is said in one sentence before anything is loaded; what is right completes in the shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fmiqa_utils.cli import main as cli
from fmiqa_utils.cli.main import app
from fmiqa_utils.errors import InputError

HEAVY = ("torch", "pandas", "IPython", "numpy", "scipy", "timm", "PIL", "matplotlib", "pyarrow")
MODELS = "sweep --datasets live --backbones dino_vitb16"
WRONG = [  # words, and what the sentence says
    ("extract --dataset tid2103", "did you mean tid2013"),
    ("report --dataset tid2103", "did you mean tid2013"),
    ("loda train --dataset tid2103", "did you mean tid2013"),
    ("datasets check tid2103", "did you mean tid2013"),
    ("sweep --datasets live,tid2103 --backbones dino_vitb16", "did you mean tid2013"),
    ("extract --dataset csv:nothing.csv --direction higher", "nothing.csv does not exist"),
    ("extract --dataset csv:folder --direction higher", "folder is a folder, not a CSV file"),
    ("extract --dataset csv:pairs.csv", "direction must be higher or lower"),
    ("report --dataset csv:pairs.csv", "direction must be higher or lower"),
    ("sweep --datasets csv:pairs.csv --backbones clip_rn50", "direction must be higher or lower"),
    ("extract --dataset csv:pairs.csv --direction up", "no direction of labels called 'up'"),
    ("extract --dataset csv:pairs.csv --direction lower --labels dmos", "labels=dmos is for LIVE only"),
    ("extract --dataset live --direction higher", "In live lower labels are better"),
    ("extract --dataset live --labels realined", "did you mean realigned"),
    ("report --dataset tid2013 --labels realigned", "tid2013 has no labels realigned"),
    ("datasets check csiq --labels dmos", "csiq has no labels dmos"),
    ("extract --dataset koniq10k", "koniq10k is not a table of pairs"),
    ("loda train --dataset bapps_2afc", "bapps_2afc is not a table of pairs or images"),
    (f"{MODELS} --direction higher", "--direction is for csv:PATH only"),
    ("extract --dataset=", "without a value"),
    ("extract --dataset live --root nowhere", "the folder nowhere does not exist"),
    ("extract --root pairs.csv", "pairs.csv is no folder"),
    ("extract --root=", "without a value"),
    ("extract --backbone dino_vitb61", "did you mean dino_vitb16"),
    ("extract --backbone dino_vitb16,dino_vitb16", "the backbone dino_vitb16 is named twice"),
    ("extract --backbone=", "no backbone is named"),
    ("extract --backbone timm:", "no backbone called 'timm:'"),
    ("report --backbone dino_vitb61", "did you mean dino_vitb16"),
    ("score a.png b.png --backbone auto", "no backbone called 'auto'"),
    ("bench --backbone dino_vitb16,clip_rn50", "several backbones"),
    ("sweep --datasets live --backbones dino_vitb61", "did you mean dino_vitb16"),
    ("extract --weights pretraind", "did you mean pretrained"),
    ("report --weights nothing.safetensors", "no weights file nothing.safetensors"),
    ("loda train --weights w.safetensors", "no kind of weights called 'w.safetensors'"),
    ("extract --distance l3", "no distance called 'l3'"),
    ("extract --distance=", "no distance is named"),
    ("report --distance cos,cos", "the distance cos is named twice"),
    ("extract --variant publised", "did you mean published"),
    ("report --variant both,published", "no variant called 'both'"),
    ("extract --transform none,none", "the transform none is named twice"),
    ("extract --transform rot-two", "no transform 'rot-two'"),
    ("report --transform rot--2", "no transform 'rot--2'"),
    ("score a.png b.png --transform none,rot-1", "no transform 'none,rot-1'"),
    ("extract --baselines psrn", "did you mean psnr"),
    ("extract --normalize imagenet", "no normalization called 'imagenet'"),
    (f"{MODELS} --normalize none,none", "the normalization none is named twice"),
    ("extract --precision fp8", "no precision called 'fp8'"),
    ("loda train --precision fp8", "no precision called 'fp8'"),
    ("extract --small-images crop", "no treatment of small images called 'crop'"),
    ("extract --device foo", "no device 'foo'"),
    ("loda predict best.ckpt a.png --device cuda:x", "no device 'cuda:x'"),
    ("loda train --device cuda:1 --devices 2", "--device cuda:1 is one GPU"),
    ("extract --batch -1", "--batch -1: it must be 0 or more"),
    ("extract --batch many", "--batch"),
    ("extract --transform-pairs -1", "--transform-pairs -1: it must be 0 or more"),
    ("extract --run=", "without a value"),
    ("bench --windows 0", "--windows 0: it must be 1 or more"),
    ("compare --resamples 0", "--resamples 0: it must be 1 or more"),
    ("compare nothing", "no run called 'nothing'"),
    ("published folder --run nothing", "no run called 'nothing'"),
    ("published --run mine", "--run compares with per-image results"),
    ("published --fit", "--fit fits per-image results"),
    ("published nowhere", "nowhere does not exist"),
    ("score a.png nowhere.png", "nowhere.png does not exist"),
    ("score a.png", "Missing argument"),
    (f"{MODELS} --workers -1", "--workers -1: it must be 0 or more"),
    (f"{MODELS} --engine dask", "no engine called 'dask'"),
    (f"{MODELS} --address auto", "--address is for --engine ray only"),
    (f"{MODELS} --engine ray --num-gpus 1.5", "a fraction up to 1, or a whole number"),
    (f"{MODELS} --engine ray --num-gpus nan", "a fraction up to 1, or a whole number"),
    (f"{MODELS} --output=", "without a value"),
    ("sweep nothing.yaml", "nothing.yaml does not exist"),
    ("sweep --datasets live", "needs --datasets and --backbones"),
    ("loda train --batch 1", "--batch 1: it must be 2 or more"),
    ("loda train --epochs 0", "--epochs 0: it must be 1 or more"),
    ("loda train --crops -1", "--crops -1: it must be 0 or more"),
    ("loda train --test-crops 0", "--test-crops 0: it must be 1 or more"),
    ("loda train --learning-rate 0", "--learning-rate 0: it must be more than 0"),
    ("loda train --learning-rate inf", "--learning-rate"),
    ("loda train --seed 4294967296", "at most 4,294,967,295"),
    ("loda train --images -5", "--images -5: it must be 0 or more"),
    ("loda train --splits 1,x", "write numbers by commas"),
    ("loda train --splits 1,1", "the split 1 is named twice"),
    ("loda train --split-file nothing.json", "nothing.json does not exist"),
    ("loda train --protocol mine", "no protocol called 'mine'"),
    ("loda train --bn moving", "no treatment of BatchNorm called 'moving'"),
    ("loda train --vit=", "without a value"),
    ("loda ablate --vits a,a", "the ViT a is named twice"),
    ("loda predict nothing.ckpt a.png", "nothing.ckpt does not exist"),
    ("loda predict best.ckpt nowhere.png", "nowhere.png does not exist"),
    ("report --set variants", "write --set variants=VALUE"),
    ("report --set dataset=live", "write --dataset live instead"),
    ("report --variant both --set variants=corrected", "variants is given twice"),
    ("exract", "extract"),
    ("extract --datset demo", "--dataset"),
]
LIGHT = """
import contextlib, io, os, sys
from fmiqa_utils.cli.main import main
for line in sys.stdin.read().splitlines():
    words, _, completion = line.partition("|")
    sys.argv = ["fmiqa", *words.split()]
    os.environ.pop("_FMIQA_COMPLETE", None)
    if completion:
        index = str(len(words.split()) + words.endswith(" "))
        os.environ |= {"_FMIQA_COMPLETE": completion, "COMP_WORDS": "fmiqa " + words, "COMP_CWORD": index}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main()
    print(line, "->", *[m for m in HEAVY if m in sys.modules], flush=True)
    assert said.getvalue(), line
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file of each kind, and a run called mine."""
    monkeypatch.chdir(tmp_path)
    for name in ("SCORES", "FIGURES", "REPORTS", "DATA"):
        monkeypatch.setenv(f"FMIQA_{name}", str(tmp_path / name.lower()))
    for name in ("pairs.csv", "a.png", "b.png", "w.safetensors", "best.ckpt", "scores/runs/mine.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of these would be work, and too early."""
    for place in (
        "extraction.choices.choose",
        "datasets.tables.load_pairs",
        "demo.build.build_demo",
        "backbones.load.load_backbone",
    ):
        monkeypatch.setattr(f"fmiqa_utils.{place}", None)


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
@pytest.mark.usefixtures("folder", "nothing_is_opened")
def test_a_mistake_is_one_sentence_and_exit_2(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fmiqa", *line.split()])
    monkeypatch.setattr(cli.stopping, "listen", lambda: None)
    monkeypatch.setattr(cli, "readable_anywhere", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert said in printed.err
    assert printed.err.startswith("fmiqa: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def every_verb(command: object, path: str = "") -> list[str]:
    below = getattr(command, "commands", {})
    return [path.strip(), *(v for name, c in below.items() for v in every_verb(c, f"{path}{name} "))]


def test_help_completion_and_mistakes_need_nothing_heavy(folder: Path) -> None:
    """All in one process: what is not there at the end was never imported."""
    verbs = every_verb(typer.main.get_command(app))
    assert len(verbs) > 15
    lines = [f"{verb} --help" for verb in verbs]
    lines += [f"{line}|complete_bash" for line, _ in COMPLETED]
    lines += [line for line, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}\n{LIGHT}"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    shown = done.stdout.splitlines()
    assert len(shown) == len(lines)
    assert [line for line in shown if not line.endswith("->")] == []


COMPLETED = [
    ("extract --dataset ti", {"tid2013"}),
    ("extract --dataset k", {"kadid10k", "koniq10k"}),
    ("extract --backbone dino_", {"dino_vits16", "dino_vitb16"}),
    ("extract --backbone clip_rn50,dino_vitb", {"clip_rn50,dino_vitb16"}),
    ("report --distance l2,c", {"l2,cos"}),
    ("extract --variant ", {"published", "corrected", "both"}),
    ("extract --normalize ", {"none", "model"}),
    ("extract --precision ", {"fp32", "bf16", "fp16"}),
    ("extract --baselines psnr,ms", {"psnr,ms_ssim"}),
    ("extract --labels r", {"realigned"}),
    ("extract --direction ", {"higher", "lower"}),
    ("extract --device cp", {"cpu"}),
    ("extract --small-images ", {"error", "resize", "pad"}),
    ("compare mi", {"mine"}),
    ("published folder --run m", {"mine"}),
    ("datasets check csi", {"csiq"}),
    ("sweep --engine ", {"local", "ray"}),
    ("loda train --protocol ", {"validated", "published"}),
    ("loda tr", {"train"}),
    ("extr", {"extract"}),
]


@pytest.mark.parametrize(("line", "offered"), COMPLETED, ids=[line for line, _ in COMPLETED])
def test_the_shell_completes(
    line: str, offered: set[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "_FMIQA_COMPLETE": "complete_bash",
        "COMP_WORDS": f"fmiqa {line}",
        "COMP_CWORD": str(len(line.split()) + line.endswith(" ")),
    }.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, [], prog_name="fmiqa")
    assert set(done.stdout.split()) == offered


def test_completion_is_asked_of_the_command_itself(folder: Path) -> None:
    """The variable has the program's name in it, however the program was started."""
    asked = {"_FMIQA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "fmiqa extract --dataset tid"}
    done = subprocess.run(
        [sys.executable, "-m", "fmiqa_utils.cli"],
        capture_output=True,
        text=True,
        env=os.environ | asked,
        check=True,
    )
    assert "tid2013" in done.stdout
    shown = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in shown.stdout


def test_a_model_that_timm_does_not_know_is_refused_before_any_work(
    folder: Path, nothing_is_opened: None
) -> None:
    for verb in ("extract", "report"):
        done = CliRunner().invoke(app, [verb, "--backbone", "timm:vit_tinny_patch16_224"])
        assert isinstance(done.exception, InputError)
        assert "vit_tiny_patch16_224" in str(done.exception)


def test_a_gpu_that_is_not_there_is_refused_in_one_sentence(
    folder: Path, nothing_is_opened: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    done = CliRunner().invoke(app, ["extract", "--device", "cuda"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == (
        "the device cuda is not there: this machine has no GPU that torch can use; write auto or cpu."
    )
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    done = CliRunner().invoke(app, ["loda", "train", "--device", "cuda:2"])
    assert "cuda:2 is not there: this machine has 2 GPUs" in str(done.exception)
