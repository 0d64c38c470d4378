"""All hosts of a run train the same recipe on the same data, or none does.

Nothing else would tell: with another learning rate on one host, or a clip in another class, the devices
add up gradients of different runs.
"""

import json
from collections.abc import Callable

from jax._src import distributed  # the store of the coordinator has no public name

from jaxvid.core.errors import ConfigError
from jaxvid.sharding import goodbye

WAIT_SECONDS = 600
_KEY = "jaxvid/setting"


def agree(setting: dict, difference: Callable[[dict, dict], list[str]]) -> None:
    """Raises ConfigError on a host whose setting is another than host 0's, with what `difference` lists.

    setting: as JSON has it. Every host calls this once; a process alone agrees with itself.
    """
    state = distributed.global_state
    if state.client is None or state.num_processes == 1:
        return
    if state.process_id == 0:
        state.client.key_value_set(_KEY, json.dumps(setting), allow_overwrite=True)
        return
    first = json.loads(state.client.blocking_key_value_get(_KEY, 1000 * WAIT_SECONDS))
    changed = difference(first, json.loads(json.dumps(setting)))
    if changed:
        raise ConfigError(
            f"{goodbye.here()} was started otherwise than host 0 (host 0's values -> its own):\n  "
            + "\n  ".join(changed)
            + "\nGive all hosts the same recipe, the same files and the same packages"
        )
