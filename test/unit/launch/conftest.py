from unit.detect.conftest import detector_bundle  # noqa: F401 - a fixture
