import types

import pytest

from jaxvid.config import difference
from jaxvid.core.errors import ConfigError
from jaxvid.sharding import agreement
from jaxvid.sharding.agreement import agree


class Store(dict):
    """Stands for the coordinator's."""

    def key_value_set(self, key, value, allow_overwrite):
        self[key] = value

    def blocking_key_value_get(self, key, milliseconds):
        return self[key]


def host(monkeypatch, number, store, count=2):
    state = types.SimpleNamespace(process_id=number, num_processes=count, client=store)
    monkeypatch.setattr(agreement.distributed, "global_state", state)


def test_the_host_that_differs_says_in_what(monkeypatch):
    store = Store()
    setting = {"optim": {"learning_rate": 0.1}, "train records": "3 clips, abc", "mesh": (1, 2)}
    host(monkeypatch, 0, store)
    agree(setting, difference)
    host(monkeypatch, 1, store)
    agree(setting, difference)
    with pytest.raises(ConfigError, match="host 1 of 2 .* otherwise than host 0") as error:
        agree(setting | {"optim": {"learning_rate": 0.2}, "train records": "3 x"}, difference)
    assert "optim.learning_rate: 0.1 -> 0.2" in str(error.value)
    assert "train records: '3 clips, abc' -> '3 x'" in str(error.value)


def test_a_process_alone_agrees_with_itself(monkeypatch):
    host(monkeypatch, 0, None, count=None)
    agree({"a": 1}, difference)
    host(monkeypatch, 0, None, count=1)
    agree({"a": 1}, difference)
