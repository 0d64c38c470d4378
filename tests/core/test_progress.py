from jaxvid.core import progress


def test_it_counts_and_hands_on(capsys):
    assert list(progress.bar([3, 4], total=2, what="decoding", unit="file")) == [3, 4]
    said = capsys.readouterr().err
    assert "decoding: 100%" in said and "2/2" in said and "file/s" in said


def test_a_log_gets_a_line_now_and_then_and_not_one_a_thing(capsys):
    for _ in progress.bar(range(10000), total=None, what="pixels", unit="clip"):
        pass
    assert capsys.readouterr().err.count("pixels") < 5


def test_it_can_be_left_out(capsys):
    assert list(progress.bar([1], total=1, what="decoding", unit="file", show=False)) == [1]
    assert capsys.readouterr().err == ""
