"""Profiles: how one runtime or accelerator computes, a rule for each kind of operation.  TOML files beside this, or yours.

    profile("litert_xnnpack").rule("conv").requant      the name of a requantizer
    profile("mine.toml").with_(accumulator=Accumulator(16, "saturate"))
"""

from sim.profiles.profile import KINDS, Profile, ProfileError, Rule, profile, profiles

__all__ = ["KINDS", "Profile", "ProfileError", "Rule", "profile", "profiles"]
