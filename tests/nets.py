"""Networks with random weights, for tests of what is read from them."""

import torch

from embed.uncompiled import library


def random_net(name, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = library("timm").create_model(name, pretrained=False).eval()
        norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:  # statistics of its own values, or they grow from level to level
            norm.momentum = None
            norm.train()
        with torch.inference_mode():
            net(torch.randn(2, 3, 120, 120))
        for norm in norms:
            norm.eval()
            norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.5, 2))
    return net
