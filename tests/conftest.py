"""Profiles of hypothesis: fixed examples in CI, fewer where kernels are interpreted or somebody waits."""

import os

from hypothesis import HealthCheck, settings

from tests.examples import scaled

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
# The first example compiles kernels, and whole networks are large draws by nature: neither is a fault of a strategy.
settings.register_profile(
    "bittrue", deadline=None, max_examples=scaled(40 if INTERPRETED else 100), derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    print_blob=True)
settings.load_profile("bittrue")
