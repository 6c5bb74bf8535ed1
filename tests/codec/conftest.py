"""One profile for the codec's property tests: no deadline, as the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("codec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("codec")
