"""LoDa's model: the released numbers, layout and parameter count, what stays frozen, and checkpoints that do not fit."""

import numpy as np
import pytest
import released
import torch

from fmiqa_utils.errors import InputError
from fmiqa_utils.loda import LoDa, plcc_loss
from fmiqa_utils.loda.data import normalized

SMALL = {"vit": "vit_tiny_patch16_224", "cnn": "resnet18"}


@pytest.fixture(scope="module")
def small() -> LoDa:
    torch.manual_seed(0)
    return LoDa(**SMALL, pretrained=False)


def batch(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def test_the_released_numbers(small: LoDa) -> None:
    golden = released.table("loda")
    own = small.released_state()
    assert {k: list(v.shape) for k, v in own.items()} == golden["keys"]
    small.load_released(own | released.seeded_state(own, golden["seed"]))
    images = [released.image(name)[:224, :224] for name in golden["images"]]
    output = small(normalized(np.stack(images)))
    assert output.shape == (len(images), 1)
    np.testing.assert_allclose(output.detach().flatten(), golden["output"], rtol=1e-3, atol=1e-6)
    loss = plcc_loss(output, torch.tensor(golden["targets"]))
    assert loss.item() == pytest.approx(golden["plcc_loss"], rel=1e-3)
    loss.backward()
    norm = torch.stack([p.grad.square().sum() for p in small.trainable() if p.grad is not None]).sum().sqrt()
    assert norm.item() == pytest.approx(golden["grad_norm"], rel=1e-3)
    small.zero_grad()


def test_the_published_number_of_parameters() -> None:
    model = LoDa(pretrained=False)
    assert sum(p.numel() for p in model.trainable()) == 8_927_488
    assert [n for n, p in model.named_parameters() if p.requires_grad and not n.startswith("learner.")] == []


def test_the_loss_by_hand() -> None:
    pred, target = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([10.0, 20.0, 30.0])
    assert plcc_loss(pred, target).item() == pytest.approx(0, abs=1e-6)
    # standardised and reversed: MSE(−t, t) = 4, ρ = −1, MSE(t, t) = 0
    assert plcc_loss(-pred, target).item() == pytest.approx(0.5 * (4 / 4 + 0), rel=1e-5)


@pytest.mark.parametrize("bn", ["frozen", "published"])
def test_batchnorm_moves_only_as_published(bn: str) -> None:
    torch.manual_seed(0)
    model = LoDa(**SMALL, pretrained=False, bn=bn).train()  # type: ignore[arg-type]
    before = {k: v.clone() for k, v in model.released_state().items()}
    plcc_loss(model(batch()), torch.arange(3.0)).backward()
    torch.optim.AdamW(model.trainable(), 1e-3).step()
    moved = {k for k, v in model.released_state().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("learner.") for k in moved)
    others = {k for k in moved if not k.startswith("learner.")}
    assert all(k.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked") for k in others)
    assert bool(others) == (bn == "published")


def test_a_checkpoint_goes_round(small: LoDa) -> None:
    torch.manual_seed(5)
    other = LoDa(**SMALL, pretrained=False)
    other.vit.load_state_dict(small.vit.state_dict())
    assert other.feature_model is not None
    assert small.feature_model is not None
    other.feature_model.load_state_dict(small.feature_model.state_dict())
    x = batch()
    assert not torch.allclose(other(x), small(x))
    other.load_released(small.checkpoint())
    torch.testing.assert_close(other(x), small(x))
    prefixed = {f"learner.{k}": v for k, v in small.checkpoint()["learner"].items()}
    other.load_released({"learner": prefixed, "bn_buffer": small.checkpoint()["bn_buffer"]})
    torch.testing.assert_close(other(x), small(x))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"vit": "vit_small_patch16_224", "cnn": "resnet18"}, "vit_tiny_patch16_224.*shapes differ"),
        ({"vit": "vit_tiny_patch16_224", "cnn": "resnet50"}, "resnet18.*shapes differ|unexpected"),
        ({**SMALL, "inject": False}, "keys are missing"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(
    small: LoDa, other: dict, said: str
) -> None:
    before = {k: v.clone() for k, v in small.state_dict().items()}
    with pytest.raises(InputError, match=said):
        small.load_released(LoDa(**other, pretrained=False).checkpoint())
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())


def test_the_batchnorms_of_a_smaller_cnn_are_not_enough(small: LoDa) -> None:
    deeper = LoDa(small.names["vit"], "resnet34", pretrained=False)
    with pytest.raises(InputError, match="not of LoDa with vit_tiny_patch16_224 and resnet34"):
        deeper.load_released(small.checkpoint())


@pytest.mark.usefixtures("small")
def test_without_injection_it_is_a_probe_of_the_vit() -> None:
    probe = LoDa(**SMALL, pretrained=False, inject=False).eval()
    x = batch()
    token = torch.nn.functional.normalize(probe.vit.forward_features(x)[:, 0], dim=1)
    vector = torch.nn.functional.normalize(probe.learner.head.weight, dim=0)
    torch.testing.assert_close(probe(x), token @ vector)
    assert sum(p.numel() for p in probe.trainable()) == 192


def test_attention_weights_are_those_of_the_attention(small: LoDa) -> None:
    attention = small.learner.cross_attn[0]
    x, tokens = torch.randn(2, 5, 64), torch.randn(2, 7, 64)
    weights = attention.weights(x, tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    v = attention.kv(tokens)[..., 64:].unflatten(2, (4, 16)).transpose(1, 2)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.proj(mixed), attention(x, tokens))


def test_models_that_do_not_fit_are_named() -> None:
    for wrong, said in (
        ({"vit": "resnet18"}, "is not a plain ViT"),
        ({"vit": "vit_tinny"}, "timm has no model"),
        ({"bn": "moving"}, "is unknown"),
    ):
        with pytest.raises(InputError, match=said):
            LoDa(**{**SMALL, "pretrained": False, **wrong})  # type: ignore[arg-type]
