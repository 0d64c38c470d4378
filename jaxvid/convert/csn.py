"""ir-CSN: PyTorchVideo's checkpoints of csn_r101."""

from jaxvid.convert.pytorchvideo import Hub, source

HEAD = ("head/{leaf:.+}",)
SOURCES = {
    "pytorchvideo/csn_r101": source(
        "pytorchvideo/csn_r101",
        Hub(
            stem=(3, 7, 7),
            defaults={
                "model_depth": 101,
                "dropout_rate": 0.0,
                "stage_temporal_stride": (1, 2, 2, 2),
                "head_pool_kernel_size": (4, 7, 7),
            },
            fields={"stage_temporal_stride": "temporal_strides"},
            fixed={
                "stage_conv_a_kernel_size": (1, 1, 1),
                "stage_conv_b_kernel_size": (3, 3, 3),
                "stage_conv_b_width_per_group": 1,
            },
            arguments={"stem_pool": True},
        ),
    )
}
