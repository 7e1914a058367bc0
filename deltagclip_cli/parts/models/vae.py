"""A variational autoencoder of linear layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def vae(shape: tuple[int, ...], classes: int, *, hidden: int = 50, latent: int = 50) -> nn.Module:
    """MLP variational autoencoder D-50-50-(50, 50)-50-50-D, LeakyReLU 0.2, sigmoid output.

    D is the number of entries of an input, which should be in [0, 1]; labels are not used.

    Source: the VAE experiment of the δ-GClip paper (arXiv 2404.08624), with these widths.
    """
    return VAE(shape, hidden=hidden, latent=latent)


class VAE(nn.Module):
    """Encoder, reparametrisation and decoder; see :func:`vae`."""

    def __init__(self, shape: tuple[int, ...], *, hidden: int, latent: int) -> None:
        super().__init__()
        size = math.prod(shape)
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
        )
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, size),
            nn.Sigmoid(),
            nn.Unflatten(1, shape),
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction ``(N, *shape)``, mean and log-variance ``(N, latent)`` of the inputs.

        The noise comes from torch's global generator of the inputs' device, in training *and* in
        evaluation, as in the published VAE: a test loss is a one-sample estimate of the bound.
        """
        features = self.encoder(inputs)
        mean, log_variance = self.mean(features), self.log_variance(features)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decoder(code), mean, log_variance
