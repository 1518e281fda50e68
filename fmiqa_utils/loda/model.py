"""LoDa: a frozen ViT and a frozen CNN, joined by a small trained injector of local distortion features.

Source: Xu et al., "Boosting Image Quality Assessment through Efficient Transformer Adaptation with Local Feature Enhancement", CVPR 2024.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmiqa_utils.backbones.catalogue import IMAGENET, WINDOW
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.loda.options import BATCH_NORM, CNN, VIT

SIZE = WINDOW
MEAN, STD = IMAGENET
WIDTH, HEADS, GRID = 64, 4, 7  # of the injector: channels, heads, side of the pooled CNN maps
DROPOUT = 0.1


class Mlp(nn.Module):
    """Two linear layers with a GELU between: d_in → d_out → d_out."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d_in, d_out), nn.Linear(d_out, d_out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_in] → [..., d_out]."""
        return self.fc2(F.gelu(self.fc1(x)))


class CrossAttention(nn.Module):
    """Multi-head attention of x [B, N, 64] over the CNN tokens [B, M, 64]; no bias in q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """[B, N, 64]."""
        q, k, v = self._heads(x, tokens)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, tokens: Tensor) -> Tensor:
        """The attention weights [B, heads, N, M]; rows sum to one."""
        q, k, _ = self._heads(x, tokens)
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)

    def _heads(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.q(x).unflatten(2, (HEADS, -1)).transpose(1, 2)
        k, v = self.kv(tokens).unflatten(2, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v


class NormedLinear(nn.Module):
    """Cosine between a token [B, D] and one learned vector → [B, 1] in [−1, 1]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim, 1), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] → [B, 1]."""
        return F.normalize(x, dim=1) @ F.normalize(self.weight, dim=0)


class Learner(nn.Module):
    """Everything that is trained: extractor (conv), injector (down_proj, cross_attn, up_proj, scale_factor) and head."""

    def __init__(self, dim: int, depth: int, channels: list[int], inject: bool) -> None:
        super().__init__()
        self.head = NormedLinear(dim)
        if not inject:
            return
        self.scale_factor = nn.Parameter(nn.init.trunc_normal_(torch.empty(depth, dim), std=0.02))
        self.conv = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, WIDTH, 1), nn.GELU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
            )
            for c in channels
        )
        self.down_proj = nn.ModuleList(Mlp(dim, WIDTH) for _ in range(depth))
        self.cross_attn = nn.ModuleList(CrossAttention() for _ in range(depth))
        self.up_proj = nn.ModuleList(Mlp(WIDTH, dim) for _ in range(depth))

    def tokens(self, maps: list[Tensor]) -> Tensor:
        """The extractor: CNN maps of the stages → [B, stages · 49, 64]."""
        pooled = [F.adaptive_avg_pool2d(conv(m), GRID) for conv, m in zip(self.conv, maps, strict=True)]
        return torch.cat([p.flatten(2).transpose(1, 2) for p in pooled], 1)

    def injected(self, i: int, x: Tensor, tokens: Tensor) -> Tensor:
        """x [B, N, D] before block `i`, with the local distortion features added."""
        d = self.down_proj[i](x)
        d = d + self.cross_attn[i](d, tokens)
        return x + self.up_proj[i](d) * self.scale_factor[i]


class LoDa(nn.Module):
    """No-reference quality of ImageNet-normalised images [B, 3, 224, 224] → [B, 1] in [−1, 1], higher is better once trained.

    vit: any plain timm ViT at 224 px; cnn: any timm model with `features_only` of at least four stages; `inject=False` leaves out the
    injector (a probe of the frozen ViT). bn: "frozen", or "published" for BatchNorm statistics that change in training, as in the
    released code. Raises InputError for a model that does not fit.
    """

    vit: Any
    feature_model: Any

    def __init__(
        self,
        vit: str = VIT,
        cnn: str = CNN,
        *,
        pretrained: bool = True,
        bn: Literal["frozen", "published"] = "frozen",
        inject: bool = True,
    ) -> None:
        super().__init__()
        if bn not in BATCH_NORM:
            raise InputError(f"bn={bn!r} is unknown; {near(bn, BATCH_NORM)}")
        self.names, self.bn, self.inject = {"vit": vit, "cnn": cnn}, bn, inject
        # The weights of the frozen parts, until a complete state is loaded.
        self.weights = "pretrained" if pretrained else "untrained"
        self.vit = _frozen_vit(vit, pretrained)
        self.feature_model = _frozen_cnn(cnn, pretrained) if inject else None
        channels = self.feature_model.feature_info.channels() if self.feature_model else []
        self.learner = Learner(self.vit.embed_dim, len(self.vit.blocks), channels, inject)
        self.dropout = nn.Dropout(DROPOUT)
        self.train(False)

    def train(self, mode: bool = True) -> "LoDa":
        """Training mode for the learner only; the CNN's BatchNorm is in training mode only with bn="published"."""
        super().train(mode)
        self.vit.eval()
        if self.feature_model is not None:
            self.feature_model.train(mode and self.bn == "published")
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 224, 224], ImageNet-normalised → [B, 1]."""
        tokens = self.local_tokens(x) if self.inject else None
        x = self.embedded(x)
        for i, block in enumerate(self.vit.blocks):
            if tokens is not None:
                x = self.learner.injected(i, x, tokens)
            x = block(x)
        return self.learner.head(self.dropout(self.vit.norm(x)[:, 0]))

    def local_tokens(self, x: Tensor) -> Tensor:
        """The extractor's tokens of images [B, 3, 224, 224] → [B, 196, 64]; the CNN takes no gradient."""
        assert self.feature_model is not None
        with torch.no_grad():
            maps = self.feature_model(x)
        return self.learner.tokens(maps)

    def embedded(self, x: Tensor) -> Tensor:
        """The ViT's tokens before its first block; nothing here is trained."""
        with torch.no_grad():
            return self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(x)))

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        return list(self.learner.parameters())

    def released_state(self) -> dict[str, Tensor]:
        """The whole model under the released names: the ViT without a prefix, then "feature_model." and "learner."."""
        state = self.state_dict()
        return {k.removeprefix("vit."): v for k, v in state.items()}

    def checkpoint(self) -> dict[str, dict[str, Tensor]]:
        """The released checkpoint layout: {"learner": the trained weights, "bn_buffer": the CNN's BatchNorm statistics}."""
        cnn = self.feature_model.state_dict() if self.feature_model else {}
        buffers = {k: v for k, v in cnn.items() if k.rsplit(".", 1)[-1] in _BUFFERS}
        return {"learner": self.learner.state_dict(), "bn_buffer": buffers}

    def load_released(self, state: Mapping[str, Any]) -> None:
        """Load a complete released state dict, or a released checkpoint {"learner", "bn_buffer"}.

        Raises InputError for missing or unexpected keys and for shapes of another ViT or CNN, and names them; the model is then unchanged.
        """
        present = self.released_state()
        complete = "learner" not in state
        given = dict(state) if complete else _flattened(state)
        wanted = set(present) if complete else {k for k in present if k.startswith("learner.")}
        if not complete and state.get("bn_buffer"):  # another CNN's BatchNorms may be a subset of this one's
            wanted |= {
                k for k in present if k.startswith("feature_model.") and k.rsplit(".", 1)[-1] in _BUFFERS
            }
        missing = sorted(k for k in wanted - set(given) if not k.endswith("num_batches_tracked"))
        unexpected = sorted(set(given) - set(present))
        wrong = [k for k in given if k in present and given[k].shape != present[k].shape]
        if missing or unexpected or wrong:
            raise InputError(
                f"this checkpoint is not of LoDa with {self.names['vit']} and {self.names['cnn']}"
                f"{'' if self.inject else ' without injection'}: {_mismatches(missing, unexpected, wrong, present, given)}."
            )
        vit = set(self.vit.state_dict())
        self.load_state_dict({f"vit.{k}" if k in vit else k: v for k, v in given.items()}, strict=False)


_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def plcc_loss(pred: Tensor, target: Tensor) -> Tensor:
    """½ · [¼ MSE(p, t) + ¼ MSE(ρp, t)] of the standardised p, t and ρ = mean(p t), in [0, ½] (docs/methods.md, LoDa loss).

    pred [B, 1] or [B], target with the same number of values. Standardised over the batch (population std + 1e-8).
    """
    p, t = (_standardised(v.flatten().float()) for v in (pred, target))
    rho = (p * t).mean()
    return 0.5 * (F.mse_loss(p, t) / 4 + F.mse_loss(rho * p, t) / 4)


def _standardised(v: Tensor) -> Tensor:
    return (v - v.mean()) / (v.std(unbiased=False) + 1e-8)


def _frozen_vit(name: str, pretrained: bool) -> Any:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    model = _created(name, pretrained, timm.create_model, num_classes=0)
    if not isinstance(model, VisionTransformer) or model.patch_embed.img_size != (SIZE, SIZE):
        raise InputError(f"{name} is not a plain ViT with {SIZE} px input: name another, such as {VIT}.")
    return model.requires_grad_(False)


def _frozen_cnn(name: str, pretrained: bool) -> Any:
    import timm

    model = _created(name, pretrained, timm.create_model, features_only=True)
    stages = len(model.feature_info)
    if stages < 4:
        raise InputError(
            f"{name} has {stages} stages of features, but LoDa needs four: name another, such as {CNN}."
        )
    if stages > 4:
        model = _created(
            name,
            pretrained,
            timm.create_model,
            features_only=True,
            out_indices=tuple(range(stages - 4, stages)),
        )
    return model.requires_grad_(False)


def check_names(*names: str) -> None:
    """Raises InputError for a model that timm does not know."""
    import timm

    for name in names:
        if not timm.is_model(name.partition(".")[0]):
            raise InputError(f"timm has no model called {name!r}; {near(name, timm.list_models())[:300]}")


def _created(name: str, pretrained: bool, create: Any, **options: Any) -> Any:
    check_names(name)
    try:
        return create(name, pretrained=pretrained, **options)
    except OSError as error:
        raise InputError(
            f"the pretrained weights of {name} could not be downloaded ({type(error).__name__}): connect to the internet once, or use "
            f"--weights untrained for a stand-in."
        ) from error
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{name} offers no {'features_only' if 'features_only' in options else 'ViT'}: {error}."
        ) from error


def _flattened(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """{"learner": {...}, "bn_buffer": {...}} → released names; either part may carry its prefix already."""
    flat: dict[str, Tensor] = {}
    for part, prefix in (("learner", "learner."), ("bn_buffer", "feature_model.")):
        values = checkpoint.get(part) or {}
        flat |= {prefix + k.removeprefix(prefix): v for k, v in values.items()}
    return flat


def _mismatches(
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    present: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> str:
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys are missing ({', '.join(missing[:3])} …)")
    if unexpected:
        parts.append(f"{len(unexpected)} are unexpected ({', '.join(unexpected[:3])} …)")
    if wrong:
        k = wrong[0]
        parts.append(
            f"{len(wrong)} shapes differ ({k} is {list(given[k].shape)}, not {list(present[k].shape)})"
        )
    return "; ".join(parts)
