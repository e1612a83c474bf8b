"""What tables look like in a notebook."""

from iaa.library.table import Table, column_texts


def test_long_texts_are_cut_and_whole_in_the_tooltip():
    path, reason = "data/mine/features/" + "x" * 40 + "/end.h5", "not here: <b> " + "word " * 20
    html = Table("T <i>", {"path": [path], "reason": [reason], "n": [1234567.0]})._repr_html_()
    assert f'title="{path}"' in html and ">data/mine/fe…" in html and "/end.h5</td>" in html
    assert 'title="not here: &lt;b&gt; word' in html and ">not here: &lt;b&gt; word" in html
    assert "<b> word" not in html and "T &lt;i&gt;" in html
    assert '<td style="text-align:right">1,234,567</td>' in html
    assert '<th style="text-align:left">path</th>' in html


def test_cells_are_words():
    table = Table("T", {"outputs": [{"pooled": 24, "embedding": 16}], "runs": [True], "left": [None]})
    html = table._repr_html_()
    assert "nothing" not in html and "nothing" in Table("T", {"group": []})._repr_html_()
    assert ">pooled 24, embedding 16<" in html and ">yes<" in html and "None" not in html


def test_numbers_of_a_column_line_up():
    assert column_texts([0.5, 0.71254, -0.0312]) == ["0.5000", "0.7125", "-0.0312"]
    assert column_texts([100.0, 96.55, 0.0]) == ["100.0", "96.5", "0.0"]
    assert column_texts([5.0, None, float("nan")]) == ["5.000", "", "nan"]
    assert column_texts([1234567, 5]) == ["1,234,567", "5"]
    assert column_texts([2017, 0.5, "a word", True]) == ["2017", "0.5", "a word", "yes"]
