"""What truncation by `top_k` and `top_p` means, token by token."""

import torch

from holdfast.sampling.draws import Request


def truncated(logits: torch.Tensor, request: Request) -> torch.Tensor:
    """Log-probabilities of one position as the settings define them, token by token."""
    probabilities = (logits / (request.temperature or 1.0)).softmax(-1)
    kept = sorted(range(len(logits)), key=lambda token: -float(probabilities[token]))
    kept = kept[: request.top_k or len(kept)]
    total, mass, nucleus = float(probabilities[kept].sum()), 0.0, []
    for token in kept:
        nucleus.append(token)
        mass += float(probabilities[token]) / total
        if mass >= request.top_p:
            break
    result = torch.full_like(logits, -torch.inf)
    result[nucleus] = (probabilities[nucleus] / probabilities[nucleus].sum()).log()
    return result
