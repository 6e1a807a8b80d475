"The network is the seed's, to the name of each weight: what its own notebook saved loads here and gives the same answers."
import torch
from torch import nn
from cae.models import Autoencoder

def conv(ni, nf): return nn.Sequential(nn.Conv2d(ni, nf, 3, stride=2, padding=1), nn.ReLU())

def deconv(ni, nf, act=True):
    layers = [nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(ni, nf, 3, padding=1)]
    return nn.Sequential(*layers, *([nn.ReLU()] if act else []))

class Plain(nn.Module):
    "The network as the story has it, stated again without a line of ours."
    def __init__(self, n_latent=128):
        super().__init__()
        self.encode = nn.Sequential(nn.ZeroPad2d(2), conv(3, 4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), conv(4, 8),
                                    conv(8, 16), nn.Flatten(), nn.Linear(256, n_latent), nn.Tanh())
        self.decode_linear = nn.Sequential(nn.Linear(n_latent, 256), nn.ReLU())
        self.decode = nn.Sequential(nn.ReLU(), deconv(16, 8), deconv(8, 4), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
                                    deconv(4, 3, act=False), nn.ZeroPad2d(-2), nn.Sigmoid())
    def forward(self, x): return self.decode(self.decode_linear(self.encode(x)).view(-1, 16, 4, 4))

def test_weights_of_the_seed_load_and_answer_alike(tmp_path):
    plain = Plain().eval()
    torch.save(plain.state_dict(), tmp_path/'seed.pth')
    model = Autoencoder()
    model.load_state_dict(torch.load(tmp_path/'seed.pth', weights_only=True))
    x = torch.rand(32, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), plain(x))
        assert torch.equal(model.encode(x), plain.encode(x))

def test_names_and_number_of_weights():
    model = Autoencoder()
    assert list(model.state_dict()) == list(Plain().state_dict())
    assert {'encode.1.0.weight', 'decode_linear.0.weight', 'decode.1.1.weight'} <= set(model.state_dict())
    assert sum(p.numel() for p in model.parameters()) == 69_355
    assert [tuple(p.shape) for p in Autoencoder(n_latent=32).parameters()] == [tuple(p.shape) for p in Plain(32).parameters()]
