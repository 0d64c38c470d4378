"""Against programs written by hand, against the compiler's own count where nothing loops, and against
the same work without a loop."""

import jax
import jax.numpy as jnp
import pytest

from jaxvid.metrics.memory_traffic import touched_bytes

STEP = """HloModule jit_step, is_scheduled=true

%condition (t: (s32[], f32[256], f32[3,256])) -> pred[] {
  %t = (s32[], f32[256], f32[3,256]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %limit = s32[] constant(3)
  ROOT %lt = pred[] fusion(%i, %limit), kind=kLoop, calls=%less
}

%less (a: s32[], b: s32[]) -> pred[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

%taking (all: f32[3,256], i: s32[], x: f32[256]) -> f32[256] {
  %all = f32[3,256] parameter(0)
  %i = s32[] parameter(1)
  %x = f32[256] parameter(2)
  %layer = f32[1,256] dynamic-slice(%all, %i, %i), dynamic_slice_sizes={1,256}
  %flat = f32[256] bitcast(%layer)
  ROOT %y = f32[256] multiply(%flat, %x)
}

%keeping (all: f32[3,256], i: s32[], x: f32[256]) -> f32[3,256] {
  %all = f32[3,256] parameter(0)
  %i = s32[] parameter(1)
  %x = f32[256] parameter(2)
  %layer = f32[1,256] bitcast(%x)
  ROOT %new = f32[3,256] dynamic-update-slice(%all, %layer, %i, %i)
}

%body (t: (s32[], f32[256], f32[3,256])) -> (s32[], f32[256], f32[3,256]) {
  %t = (s32[], f32[256], f32[3,256]) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %x = f32[256] get-tuple-element(%t), index=1
  %all = f32[3,256] get-tuple-element(%t), index=2
  %y = f32[256] fusion(%all, %i, %x), kind=kLoop, calls=%taking
  %kept = f32[3,256] fusion(%all, %i, %y), kind=kLoop, calls=%keeping
  %next = s32[] add(%i, %i)
  ROOT %r = (s32[], f32[256], f32[3,256]) tuple(%next, %y, %kept)
}

ENTRY %main (x: f32[256], all: f32[3,256]) -> f32[256] {
  %x = f32[256] parameter(0)
  %all = f32[3,256] parameter(1)
  %zero = s32[] constant(0)
  %twice = f32[256] add(%x, %x)
  %t = (s32[], f32[256], f32[3,256]) tuple(%zero, %twice, %all)
  %w = (s32[], f32[256], f32[3,256]) while(%t), condition=%condition, body=%body
  %y = f32[256] get-tuple-element(%w), index=1
  %s = (f32[256], f32[256], u32[]) copy-start(%y)
  %d = f32[256] copy-done(%s)
  ROOT %half = f32[128] slice(%d), slice={[0:128]}
}
"""
ROW = 256 * 4
OUTSIDE = 3 * ROW + (2 * ROW + 4) + ROW  # add; copy, with its flag; half a row, read and written
CONDITION = 9
INSIDE = (3 * ROW + 4) + (2 * ROW + 4) + 12  # a layer and x to y; y to its place; the counter


def test_a_loop_counts_as_often_as_it_runs_and_the_rest_once():
    assert touched_bytes(STEP) == OUTSIDE + 3 * (INSIDE + CONDITION)
    noted = STEP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"10"}}')
    assert touched_bytes(noted) == OUTSIDE + 10 * (INSIDE + CONDITION)
    unknown = STEP.replace("direction=LT", "direction=NE")
    assert touched_bytes(unknown) == OUTSIDE + INSIDE + CONDITION


def test_what_tpus_take_meanwhile_and_what_moves_nothing():
    tpu = """ENTRY %main (x: f32[256]) -> f32[256] {
  %x = f32[256] parameter(0)
  %a = ((f32[256]), f32[128], s32[]) slice-start(%x), slice={[0:128]}
  %b = f32[128] slice-done(%a)
  %c = f32[256] custom-call(%b, %b), custom_call_target="ConcatBitcast"
  %d = f32[4,256] custom-call(), custom_call_target="AllocateBuffer"
  %e = f32[256] custom-call(%c), custom_call_target="Sort"
}
"""
    assert touched_bytes(tpu) == (2 * ROW / 2 + 2 * 4) + 2 * ROW


def test_a_fusion_that_needs_all_of_what_it_slices_reads_all_of_it():
    """Also where another fusion within it does."""
    more = STEP.replace(
        "%y = f32[256] multiply(%flat, %x)", "%y = f32[256] select(%flat, %all, %x)"
    )
    assert touched_bytes(more) - touched_bytes(STEP) == 3 * 2 * ROW
    inner = "%sum (all: f32[3,256]) -> f32[256] {\n  %all = f32[3,256] parameter(0)\n"
    inner += "  ROOT %s = f32[256] reduce(%all), to_apply=%less\n}\n\n%taking "
    nested = more.replace("%taking ", inner, 1).replace(
        "select(%flat, %all, %x)", "select(%flat, %f, %x)"
    )
    nested = nested.replace(
        "  ROOT %y = f32[256] select",
        "  %f = f32[256] fusion(%all), calls=%sum\n  ROOT %y = f32[256] select",
    )
    assert touched_bytes(nested) == touched_bytes(more)


def test_a_fusion_of_fusions_writes_what_is_new():
    outer = "%outer (p: f32[3,256], i: s32[], x: f32[256]) -> (f32[3,256], f32[256]) {\n"
    outer += (
        "  %p = f32[3,256] parameter(0)\n  %i = s32[] parameter(1)\n  %x = f32[256] parameter(2)\n"
    )
    outer += "  %f = f32[3,256] fusion(%p, %i, %x), calls=%keeping\n"
    outer += "  ROOT %b = (f32[3,256], f32[256]) tuple(%f, %x)\n}\n\n%body "
    nested = STEP.replace("%body ", outer, 1).replace(
        "calls=%keeping\n  %next", "calls=%outer\n  %next"
    )
    assert touched_bytes(nested) - touched_bytes(STEP) == 3 * ROW


def compiled(function, *shapes):
    made = jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    return made.compile()


def layers(x, weights):
    for weight in weights:
        x = jnp.tanh(x @ weight)
    return jnp.sum(x)


def looped(x, weights):
    return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0])


def test_what_does_not_loop_is_counted_as_the_compiler_does():
    made = compiled(jax.grad(layers, argnums=1), (64, 32), (6, 32, 32))
    theirs = made.cost_analysis()["bytes accessed"]
    assert touched_bytes(made.as_text()) == pytest.approx(theirs, rel=0.01)


def test_of_a_compiled_scan_each_layer_counts():
    """The compiler counts the loop's body once: what is missing there is so many times the same."""
    bodies = []
    for depth in (4, 12):
        made = compiled(jax.grad(looped, argnums=1), (64, 32), (depth, 32, 32))
        missing = touched_bytes(made.as_text()) - made.cost_analysis()["bytes accessed"]
        bodies.append(missing / (depth - 1))
    assert bodies[1] == pytest.approx(bodies[0], rel=0.01)
    assert bodies[0] > 5 * 64 * 32 * 4  # a layer's products take and give at least five such
