"scikit-learn's own checks of a transformer, all of them that apply; none is expected to fail."
import pytest, torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from cae.elsewhere import AutoencoderTransformer

@pytest.fixture(autouse=True, scope='module')
def one_thread():
    "For networks of 4×4 pixels, two threads wait for each other more than they work."
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)

@parametrize_with_checks([AutoencoderTransformer(n_latent=3, epochs=1)], expected_failed_checks=lambda estimator: {})
def test_scikit_learns_checks(estimator, check): check(estimator)
