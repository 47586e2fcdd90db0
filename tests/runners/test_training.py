"""Training: made pictures with exact truth; what torch computes is what the written model computes."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from runners.pipelines import specimen_net
from runners.training import made_pictures
from runners.training.examples import UNKNOWN, cut_out, read_examples
from runners.training.made_pictures import CLASSES, EDGE, make_picture

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is missing: pip install 'vasculum[train]'"
)


def test_both_halves_mean_the_same_classes() -> None:
    assert CLASSES == specimen_net.CLASSES


def test_made_pictures_follow_from_the_seed_and_hold_every_class() -> None:
    seen: set[int] = set()
    for number in range(14):
        scene = make_picture(np.random.default_rng((3, number)), 256)
        truth = scene.truth()
        assert (truth & 15).max() < len(CLASSES)
        assert not ((truth & EDGE > 0) & ((truth & 15) <= made_pictures.SPECIMEN)).any(), "rims are of things of paper"
        seen |= set(np.unique(truth & 15))
        if number == 0:
            assert (make_picture(np.random.default_rng((3, number)), 256).pixels == scene.pixels).all()
    assert seen >= set(range(made_pictures.OTHER)), "all but things that belong to nobody, which are rare"


def write_example(folder: Path, name: str, seed: int) -> None:
    scene = make_picture(np.random.default_rng(seed), 160)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    mask = np.where(scene.classes == made_pictures.SPECIMEN, 255, 0).astype(np.uint8)
    mask[20:60, 20:50] = 255
    cv2.imwrite(str(folder / "images" / f"{name}.jpg"), scene.pixels)
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


def test_examples_are_read_and_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_example(tmp_path / "herbarium", "one", 1)
    [example] = read_examples(tmp_path, 128)
    assert example.is_plant
    assert max(example.mask.shape) == 128
    assert set(np.unique(example.classes)) == {made_pictures.SPECIMEN, UNKNOWN}
    assert cut_out([example])[0].patch.mask.max() == 255
    cv2.imwrite(str(tmp_path / "herbarium" / "masks" / "one.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="differ in size"):
        read_examples(tmp_path, 128)


@needs_torch
def test_a_folder_without_masks_is_refused_in_a_line(tmp_path: Path) -> None:
    from node.cli.main import cli

    given = ["train", "segment", "--data", str(tmp_path), "--out", str(tmp_path / "o.onnx")]
    result = CliRunner().invoke(cli, given)
    assert result.exit_code == 2
    assert "no folder 'images' with a folder 'masks' beside it" in result.output


@needs_torch
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_written_model_says_what_torch_says(tmp_path: Path) -> None:
    import onnxruntime
    import torch

    from runners.training import network

    torch.manual_seed(1)
    weights = network.to_arrays(network.build())
    network.export(weights, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = np.random.default_rng(1).uniform(0, 255, (1, 3, 64, 96)).astype(np.float32)
    [written] = session.run(None, {"pixels": given})
    with torch.no_grad():
        expected = network.from_arrays(weights)(torch.from_numpy(given)).numpy()
    assert written.shape == (1, len(CLASSES) + 1, 64, 96)
    assert np.abs(written - expected).max() < 5e-3
    assert np.abs(written[:, :-1].sum(1) - 1).max() < 1e-5


@needs_torch
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_training_runs_from_masks_to_a_model_and_says_what_it_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runners.training import segment

    monkeypatch.setattr(segment, "SIDE", 96)
    monkeypatch.setattr(segment, "CROP", 64)
    for number in range(2):
        write_example(tmp_path / "herbarium", f"sheet{number}", number)
        write_example(tmp_path / "insects", f"beetle{number}", 10 + number)
    settings = segment.Settings(
        plain_pictures=3, mixed_pictures=12, batch=4, base_steps=2, tune_steps=2, folds=2, scored_pictures=1
    )
    report = segment.train(tmp_path, tmp_path / "model.onnx", encoder=None, settings=settings)
    assert len(report.held_out) == 4
    assert {scores["fold"] for scores in report.held_out.values()} == {0, 1}
    assert (tmp_path / "model.onnx").stat().st_size < 10_000_000
    assert json.loads((tmp_path / "model.json").read_text("utf-8"))["trained_on"] == report.trained_on
