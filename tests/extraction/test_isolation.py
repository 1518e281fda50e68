"""Tests see folders of their own and no hub, also in the processes that they start."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.errors import InputError
from fmiqa_utils.paths import data_root, figures_root, machine_root, reports_root, scores_root


def test_every_folder_is_this_tests_own(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [data_root(), scores_root(), figures_root(), reports_root(), machine_root()]
    assert roots == [folders / n for n in ("data", "scores", "figures", "reports", "scores")]
    assert not folders.exists()
    monkeypatch.undo()
    assert scores_root() == folders / "scores"  # undoing what a test has patched leaves it where it was


def test_a_process_of_a_test_sees_the_same_folders(folders: Path) -> None:
    code = "from fmiqa_utils.paths import scores_root; print(scores_root())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(folders / "scores")


def test_the_hub_is_not_asked_and_its_cache_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the hub was asked"))
    assert not Path(os.environ["HF_HOME"]).exists()
    with pytest.raises(InputError, match="hub"):
        load_backbone("dino_vits16", "pretrained")
