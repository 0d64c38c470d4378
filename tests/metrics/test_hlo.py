"""Lines as compilers write them."""

from jaxvid.metrics.hlo import padded_size, parse, size

NESTED = """HloModule jit_step, is_scheduled=true

%less (p: (s32[])) -> pred[] {
  %p = (s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant(5)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%inner (p: (s32[])) -> (s32[]) {
  %p = (s32[]) parameter(0)
  %three = s32[] constant(3)
  %lt = pred[] compare(%three, %three), direction=LT
  ROOT %t = (s32[]) tuple(%three)
}

%outer (p: (s32[])) -> (s32[]) {
  %p = (s32[]) parameter(0)
  ROOT %w = (s32[]) while(%p), condition=%less, body=%inner
}

%forever (p: (s32[])) -> (s32[]) {
  %p = (s32[]) parameter(0)
  ROOT %w = (s32[]) while(%p), condition=%less.2, body=%inner.2, backend_config={"known_trip_count":{"n":"7"}}
}

%less.2 (p: (s32[])) -> pred[] {
  %p = (s32[]) parameter(0)
  ROOT %yes = pred[] constant(true)
}

ENTRY %main (a: f32[4], /*index=1*/b: (s32[])) -> (s32[]) {
  %a = f32[4]{0} parameter(0)
  %b = (s32[]) parameter(1)
  %w.1 = (s32[]) while(%b), condition=%less, body=%outer, backend_config={"known_trip_count":{"n":"2"}}
  %c = f32[4]{0} custom-call(%a, /*index=1*/%a), metadata={op_name="f(%no)"}, called_computations={%inner.2}
  ROOT %w.2 = (s32[]) while(%w.1), condition=%less.2, body=%forever
}
"""


def test_nested_loops_multiply():
    runs = parse(NESTED.replace("%inner.2", "%less.2")).runs()
    assert runs["main"] == (1, False) and runs["outer"] == (2, False)
    assert runs["inner"] == (2 * 5, False)  # its own constant and comparison are no limit
    assert runs["forever"] == (1, True)  # of a condition that says nothing


def test_what_an_instruction_takes_and_runs():
    module = parse(NESTED)
    main = module.computations[module.entry]
    assert main.instructions["c"].operands == ("a", "a")
    assert main.instructions["c"].called == ("inner.2",)
    assert main.instructions["w.1"].called == ("less", "outer")
    assert [(x.name, index) for x, index in main.users["a"]] == [("c", 0), ("c", 1)]
    assert main.root.name == "w.2"


def test_sizes():
    assert size("(bf16[2,3]{1,0:T(8,128)(2,1)}, /*index=1*/s32[], pred[5]{0}, s4[4])") == 23
    assert padded_size("f32[3,130]{1,0:T(8,128)}") == 8 * 256 * 4
    assert padded_size("f32[3,130]{0,1:T(8,128)}") == 128 * 136 * 4  # axis 0 changes fastest
    assert padded_size("bf16[5,3]{1,0:T(2,128)(2,1)S(1)}") == 6 * 128 * 2
    assert padded_size("(f32[3,130]{1,0}, u8[7])") == size("(f32[3,130], u8[7])") == 1567
