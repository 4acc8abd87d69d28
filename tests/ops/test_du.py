"""How much room data takes."""


def test_equal_content_counts_once(project):
    project.write({"a.bin": b"1" * 1000, "b.bin": b"1" * 1000, "c.bin": b"2" * 500}, "data")
    project.write({"copy.bin": b"1" * 1000})
    project.dv("add", "data", "copy.bin")
    told = project.json("du")
    assert [(one["path"], one["size"], one["files"], one["distinct"], one["stored"]) for one in told["paths"]] == [
        ("data", 2500, 3, 1500, 1500),
        ("copy.bin", 1000, 1, 1000, 1000),
    ]
    assert (told["total"]["size"], told["total"]["distinct"]) == (3500, 1500)
    assert "together" in project.dv("du") and "1.5 kB" in project.dv("du", "data")


def test_what_is_not_here(pushed):
    clone = pushed.clone()
    told = clone.json("du")
    assert told["total"]["stored"] == 0 and not told["total"]["is_whole"]
    assert "some listings are not here" in clone.dv("du")
    clone.dv("fetch", "data")
    assert {one["path"]: one["stored"] > 0 for one in clone.json("du")["paths"]} == {"data": True, "model.bin": False}
    assert "is not tracked" in clone.dv("du", "nothing", code=2)
