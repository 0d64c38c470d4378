"""Against programs whose transfers are known, on eight CPU devices, and against lines as TPU and GPU
compilers write them."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jaxvid.metrics.collectives import Traffic, traffic
from jaxvid.sharding.mesh import make_mesh

SIZE = 1024  # float32 on each device: 4096 bytes


def sent(function, *, fsdp=1, tensor=1):
    mesh = make_mesh(fsdp=fsdp, tensor=tensor)
    spec = P(("data", "fsdp", "tensor"))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    x = jax.ShapeDtypeStruct((8 * SIZE,), jnp.float32)
    return traffic(jax.jit(mapped).lower(x).compile().as_text(), 8)


ALL = ("data", "fsdp", "tensor")


@pytest.mark.parametrize(
    "function, kind, size",
    [
        (lambda x: jax.lax.psum(x, ALL), "all-reduce", 2 * 4096 * 7 / 8),
        (
            lambda x: jax.lax.all_gather(x, ALL, tiled=True)[:SIZE] * 2,
            "all-gather",
            8 * 4096 * 7 / 8,
        ),
        (
            lambda x: jnp.tile(jax.lax.psum_scatter(x, ALL, tiled=True), 8),
            "reduce-scatter",
            4096 * 7 / 8,
        ),
        (
            lambda x: jax.lax.all_to_all(x.reshape(8, -1), ALL, 0, 0).reshape(-1),
            "all-to-all",
            4096 * 7 / 8,
        ),
        (
            lambda x: jax.lax.ppermute(x, "data", [(i, (i + 1) % 8) for i in range(8)]),
            "collective-permute",
            4096,
        ),
    ],
)
def test_one_of_each_kind(function, kind, size):
    assert sent(function) == {kind: Traffic(1, size)}


def test_only_the_group_counts():
    found = sent(lambda x: jax.lax.psum(x, "tensor"), fsdp=2, tensor=2)
    assert found == {"all-reduce": Traffic(1, 2 * 4096 / 2)}


def test_loops_count_as_often_as_they_run():
    def step(carry, _):
        return jax.lax.psum(carry, ALL) / 8, None

    def nested(carry, _):
        return jax.lax.scan(step, carry, None, length=5)[0], None

    found = sent(lambda x: jax.lax.scan(nested, x, None, length=3)[0])
    assert found == {"all-reduce": Traffic(15, 15 * 2 * 4096 * 7 / 8)}


def test_a_loop_of_unknown_length_counts_once_and_says_so():
    def body(x):
        return jax.lax.psum(x, ALL) + 1

    found = sent(lambda x: jax.lax.while_loop(lambda x: x[0] < 100, body, x))
    assert found["all-reduce"] == Traffic(1, 2 * 4096 * 7 / 8, in_unknown_loops=1)


def test_no_transfers():
    assert sent(lambda x: x + 1) == {}


TPU = """HloModule jit_step, is_scheduled=true

%region_1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%piece.1 (p: bf16[32,64]) -> bf16[64,64] {
  ROOT %all-gather.1 = bf16[64,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=15, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_0'}, dimensions={0}
}

%piece.2 (p: bf16[32,64]) -> bf16[64,64] {
  ROOT %all-gather.2 = bf16[64,64]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), channel_id=15, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_0'}, dimensions={0}
}

%all-reduce-scatter.3 (input: bf16[512,8]) -> bf16[128,8] {
  %all-reduce.5 = bf16[512,8]{1,0:T(8,128)(2,1)} all-reduce(%input), channel_id=5, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%region_1
  ROOT %dynamic-slice = bf16[128,8]{1,0:T(8,128)(2,1)S(1)} dynamic-slice(%all-reduce.5, %i, %zero), dynamic_slice_sizes={128,8}
}

%body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %cp = (f32[4]{0}, f32[4]{0:T(128)}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), channel_id=3, source_target_pairs={{0,1},{1,0}}
}

%condition (t: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

ENTRY %main (p: f32[768]) -> f32[768] {
  %f1 = bf16[64,64] fusion(%p), kind=kCustom, calls=%piece.1
  %f2 = bf16[64,64] fusion(%f1), kind=kCustom, calls=%piece.2
  %f3 = bf16[128,8] fusion(%f2), kind=kCustom, calls=%all-reduce-scatter.3
  %w = (s32[]{:T(128)}, f32[4]{0}) while(%t), condition=%condition, body=%body, metadata={op_name="jit(step)/while"}
  %ar = (f32[768]{0:T(1024)}, /*index=1*/bf16[2,768]{1,0}) all-reduce(%a, %b), channel_id=7, replica_groups=[2,4]<=[8], to_apply=%region_1
  %ags = (bf16[4]{0}, bf16[32]{0}) all-gather-start(%c), channel_id=8, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %agd = bf16[32]{0} all-gather-done(%ags), channel_id=8
  ROOT %done = f32[768] copy(%p)
}
"""


def test_lines_of_tpu_programs():
    assert traffic(TPU, 8) == {
        "all-reduce": Traffic(1, 2 * (768 * 4 + 2 * 768 * 2) * 3 / 4),
        # Pieces of one transfer, then one in two halves.
        "all-gather": Traffic(2, 64 * 64 * 2 / 2 + 32 * 2 * 7 / 8),
        "reduce-scatter": Traffic(1, 512 * 8 * 2 * 3 / 4),
        # Four floats, twelve times; its 8 bytes of flags are taken for a buffer's.
        "collective-permute": Traffic(12, 12 * (2 * 16 + 8) / 2),
    }


def test_groups_over_parts_of_a_mesh():
    line = "replica_groups=mesh['a'=4,'b'=2] {'a':(1)2,'b'}"
    text = TPU.replace("replica_groups=[2,4]<=[8]", line)
    assert text != TPU and traffic(text, 8)["all-reduce"].bytes == 2 * 6144 * 3 / 4
    text = TPU.replace("replica_groups=[2,4]<=[8]", "replica_groups={}")
    assert traffic(text, 8)["all-reduce"].bytes == 2 * 6144 * 7 / 8


def test_a_noted_trip_count_wins():
    noted = 'body=%body, backend_config={"known_trip_count":{"n":"5"}}'
    text = TPU.replace("body=%body", noted)
    assert traffic(text, 8)["collective-permute"].count == 5


def test_a_condition_that_is_not_plain_is_of_unknown_length():
    text = TPU.replace("direction=LT", "direction=GT")
    assert traffic(text, 8)["collective-permute"] == Traffic(1, 20, in_unknown_loops=1)
