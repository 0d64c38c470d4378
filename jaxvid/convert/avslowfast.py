"""AVSlowFast: nobody published its weights; a SlowFast of the same depth starts what sees in it."""

from jaxvid.convert.source import Transfer

HEAD = ("head/{leaf:.+}",)
SOURCES = {}

_DEAF = "the checkpoint has no audio pathway"
TRANSFERS = {
    "slowfast": Transfer(
        arguments=dict,
        fresh={
            "backbone/audio/{leaf:.+}": _DEAF,
            "backbone/audio_fusion_{i}/{leaf:.+}": _DEAF,
            "batch_stats/backbone/audio/{leaf:.+}": _DEAF,
            "batch_stats/backbone/audio_fusion_{i}/{leaf:.+}": _DEAF,
            "head/{leaf:.+}": "it sees the audio pathway's features too",
        },
    )
}
