from jaxvid.metrics.chips import GIB, chip_of


def test_chips_by_what_jax_calls_them():
    v5e, v5p = chip_of("TPU v5 lite"), chip_of("TPU v5")
    assert (v5e.name, v5e.memory_bytes, v5e.bf16_flops) == ("TPU v5e", 16 * GIB, 197e12)
    assert (v5p.name, v5p.memory_bytes, v5p.bf16_flops) == ("TPU v5p", 95 * GIB, 459e12)
    assert chip_of("TPU v6 lite").name == "TPU v6e"
    assert chip_of("NVIDIA H200 NVL").name == "H200 SXM"
    assert chip_of("cpu") is None and chip_of("NVIDIA H100 PCIe") is None


def test_two_devices_of_a_chip_share_it():
    half, whole = chip_of("TPU7x").share(2), chip_of("TPU7x")
    assert half.memory_bytes == whole.memory_bytes // 2 == 96 * GIB
    assert half.bf16_flops == whole.bf16_flops / 2
    assert half.link_bytes_per_second == whole.link_bytes_per_second / 2
    assert whole.share(1) == whole
