import pytest

from pipelines.device.settings import device_name, settings_of
from pipelines.system import machine


class TestSettings:
    def test_defaults(self):
        settings = settings_of("standard")
        assert settings.threads == tuple(sorted({1, machine.cores()}))
        assert (settings.batches, settings.windows, settings.limit_s) == ((8, 32), 5, 120)

    def test_thorough_is_mlperfs_minimum_for_p99(self):
        settings = settings_of("thorough")
        assert (settings.min_duration_s, settings.min_calls) == (10, 662)

    def test_given(self):
        settings = settings_of("standard", threads="4,1", batches="none", limit="2.5")
        assert (settings.threads, settings.batches, settings.limit_s) == ((1, 4), (), 2.5)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("name", "slow", "profile must be one of quick, standard, thorough, got 'slow'"),
            ("threads", "0", "threads must be a whole number of at least 1"),
            ("threads", "two", "threads must be whole numbers, with commas between them, got 'two'"),
            ("threads", "none", "threads must hold at least one number"),
            ("batches", "1", "batches must be a whole number of at least 2"),
            ("limit", "-1", "limit must be a number, more than 0"),
            ("limit", "long", "limit must be a number of seconds, got 'long'"),
        ],
    )
    def test_bad_values_are_named(self, name, value, message):
        with pytest.raises(ValueError, match=f"^{message}"):
            settings_of(**{"name": "standard"} | {name: value})

    def test_target(self):
        assert device_name(None) == machine.slug()
        assert device_name("pi-4.kitchen") == "pi-4.kitchen"
        with pytest.raises(ValueError, match=r"^target must be letters, digits, .* got 'a/b'"):
            device_name("a/b")
