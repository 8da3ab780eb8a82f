"""Six models with the losses and optimisers that people train them with, small enough for a CPU."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from graphs.models import mobilenet, resnet18, transformer

CLASSES = 10


class Setup(NamedTuple):
    """What :func:`topoformer.compile_train_step` takes; ``optimizer`` makes one for a model's parameters."""

    model: nn.Module
    loss_fn: Callable[..., Tensor] | None
    optimizer: Callable[[Any], Optimizer]
    batch: Any

    def loss(self, model: nn.Module) -> Tensor:
        """The loss of the batch under ``model``, as plain PyTorch computes it."""
        if self.loss_fn is None:
            value: Tensor = model(**self.batch).loss
            return value
        inputs, target = self.batch
        return self.loss_fn(model(inputs), target)


class UNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015): convolutions down and up again, joined at each resolution."""

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels << row for row in range(depth)]
        self.down = nn.ModuleList(self.block(w // 2 if row else 3, w) for row, w in enumerate(widths))
        self.lift = nn.ModuleList(nn.ConvTranspose2d(w, w // 2, 2, 2) for w in widths[:0:-1])
        self.up = nn.ModuleList(self.block(w, w // 2) for w in widths[:0:-1])
        self.head = nn.Conv2d(channels, classes, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Sequential:
        """A 3x3 convolution, batch norm, ReLU in place."""
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skipped else x)
            skipped.append(x)
        for lift, block, skip in zip(self.lift, self.up, skipped[-2::-1], strict=True):
            x = block(torch.cat([lift(x), skip], 1))
        out: Tensor = self.head(x)
        return out


class Tagger(nn.Module):
    """Embedding, two layers of LSTM, a class for each token."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, 2 * dim, 2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(2 * dim, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(self.embedding(tokens))[0])
        return out


def _of_tokens(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def _sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


def _plain_sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.05)


def _adam(parameters: Any) -> Optimizer:
    return Adam(parameters, lr=1e-3)


def _adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=1e-3, weight_decay=0.01)


def resnet_sgd(*, small: bool = False) -> Setup:
    """ResNet-18 on images, SGD with momentum and weight decay."""
    batch, side = (2, 32) if small else (8, 128)
    net, (images,) = resnet18(batch=batch, resolution=side)
    return Setup(net.train(), nn.CrossEntropyLoss(), _sgd, (images, torch.arange(batch) % CLASSES))


def transformer_adamw(*, small: bool = False) -> Setup:
    """A decoder of four layers, AdamW."""
    size = {"batch": 2, "length": 16, "dim": 32, "vocabulary": 50} if small else {"batch": 4, "length": 128}
    net, (tokens,) = transformer(layers=4, **size)
    return Setup(net.train(), _of_tokens, _adamw, (tokens, tokens.roll(-1, 1)))


def mobilenet_adam(*, small: bool = False) -> Setup:
    """MobileNetV2 on images, Adam; the small one ends after its first six blocks."""
    batch, side = (2, 32) if small else (8, 96)
    net, (images,) = mobilenet(batch=batch, resolution=side)
    if small:
        net = nn.Sequential(*list(net)[:9], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))
    return Setup(net.train(), nn.CrossEntropyLoss(), _adam, (images, torch.arange(batch) % CLASSES))


def unet_sgd(*, small: bool = False) -> Setup:
    """A U-Net of four resolutions, a class for each pixel, SGD with momentum and weight decay."""
    batch, side, channels = (1, 16, 4) if small else (2, 128, 32)
    net = UNet(channels, 4, 3)
    images = torch.randn(batch, 3, side, side)
    return Setup(net.train(), nn.CrossEntropyLoss(), _sgd, (images, (images[:, 0] > 0).long()))


def llama_sgd(*, small: bool = False) -> Setup:
    """A Llama (Touvron et al., 2023) of Hugging Face at batch 1, plain SGD."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, length = (32, 2, 8) if small else (512, 8, 128)
    config = LlamaConfig(
        vocab_size=100 if small else 4000,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        use_cache=False,
    )
    tokens = torch.randint(config.vocab_size, (1, length))
    return Setup(LlamaForCausalLM(config).train(), None, _plain_sgd, {"input_ids": tokens, "labels": tokens})


def lstm_adam(*, small: bool = False) -> Setup:
    """A tagger with two layers of LSTM, Adam."""
    batch, length, dim, vocabulary = (2, 5, 8, 20) if small else (8, 64, 128, 2000)
    tokens = torch.randint(vocabulary, (batch, length))
    return Setup(Tagger(vocabulary, dim).train(), _of_tokens, _adam, (tokens, tokens.roll(-1, 1)))


SETUPS: dict[str, Callable[..., Setup]] = {
    make.__name__: make for make in (resnet_sgd, transformer_adamw, mobilenet_adam, unet_sgd, llama_sgd, lstm_adam)
}


def setup(name: str, *, small: bool = False, seed: int = 0) -> Setup:
    """The setup of that name, from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SETUPS[name](small=small)
