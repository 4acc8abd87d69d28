"""Hooks beside others: install, uninstall, and what they do at a commit and a push."""

import os
import subprocess

import pytest

from dvlite.ops.hooks import EVENTS
from tests.conftest import make_project
from tests.git.conftest import FILES, Hooked


def hooks_of(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mode) for path in sorted(folder.iterdir())}


@pytest.fixture
def bare(tmp_path):
    """A project without hooks."""
    return Hooked(make_project(tmp_path / "work").root)


# ---- installing -----------------------------------------------------------------------------------------------------


def test_init_installs_and_again_changes_nothing(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "p"], check=True)
    project = Hooked(tmp_path / "p")
    assert "Git's hooks: pre-commit" in project.dv("init")
    assert project.json("hooks", "status")["is_installed"]
    before = {path: path.stat().st_mtime_ns for path in (project.root / ".git/hooks").iterdir()}
    assert "nothing to do" in project.dv("hooks", "install")
    assert {path: path.stat().st_mtime_ns for path in (project.root / ".git/hooks").iterdir()} == before


def test_init_without_hooks_leaves_them_alone_and_asks_no_more(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "p"], check=True)
    project = Hooked(tmp_path / "p")
    project.dv("init", "--no-hooks")
    assert "hooks" not in project.dv("status")
    assert not (project.root / ".git/hooks/pre-commit").exists()


def test_uninstall_restores_byte_for_byte(bare):
    folder = bare.root / ".git/hooks"
    for name, text, mode in (
        ("pre-commit", "#!/bin/sh\necho mine\nexit 0\n", 0o755),
        ("post-checkout", "#!/usr/bin/env bash\nset -eu\necho mine", 0o755),  # no newline at the end
        ("pre-push", "#!/usr/bin/env python3\nprint('mine')\n", 0o755),
        ("post-merge", "#!/bin/sh\necho switched off\n", 0o644),
        ("post-commit", "#!/bin/sh", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "linked").write_text("#!/bin/sh\necho shared\n")
    (folder / "linked").chmod(0o755)
    (folder / "post-rewrite").symlink_to("linked")
    before = hooks_of(folder)
    bare.dv("hooks", "install")
    assert bare.json("hooks", "status")["is_installed"]
    others = {hook["event"] for hook in bare.json("hooks", "status")["hooks"] if hook["has_other"]}
    assert others == {"pre-commit", "post-checkout", "pre-push", "post-merge", "post-commit", "post-rewrite"}
    bare.dv("hooks", "uninstall")
    assert hooks_of(folder) == before and (folder / "post-rewrite").is_symlink()
    assert "merge.dvlite" not in bare.git("config", "--local", "--list")
    assert bare.json("hooks", "status", code=1)["is_installed"] is False


@pytest.mark.parametrize("language", ["sh", "python"])
def test_a_hook_that_was_there_runs_too_and_its_exit_code_counts(bare, language, tmp_path):
    path = bare.root / ".git/hooks/pre-commit"
    mark = tmp_path / "ran"
    text = f"#!/bin/sh\ntouch {mark}\nexit $(cat {tmp_path}/code)\n"
    if language == "python":
        text = f"#!/usr/bin/env python3\nopen({str(mark)!r}, 'w')\nraise SystemExit(int(open({str(tmp_path / 'code')!r}).read()))\n"
    path.write_text(text)
    path.chmod(0o755)
    bare.dv("hooks", "install")
    bare.write(FILES, "data")
    bare.dv("add", "data")
    (tmp_path / "code").write_text("1")
    bare.git("commit", "-q", "-m", "refused", code=1)
    assert mark.exists()
    (tmp_path / "code").write_text("0")
    bare.git("commit", "-q", "-m", "taken")


def test_a_pre_push_hook_that_reads_its_input_still_gets_it(bare, tmp_path):
    path = bare.root / ".git/hooks/pre-push"
    path.write_text(f'#!/bin/sh\nset -eu\nwhile read -r a b c d; do echo "$a $c" >> {tmp_path}/seen; done\n')
    path.chmod(0o755)
    bare.dv("hooks", "install")
    bare.dv("remote", "add", "-q", "origin", tmp_path / "data-remote")
    bare.write(FILES, "data")
    bare.dv("add", "data")
    bare.git("commit", "-q", "-m", "one")
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    bare.git("push", "-q", tmp_path / "bare", "main", "main:other")
    assert (tmp_path / "seen").read_text().split("\n") == [
        "refs/heads/main refs/heads/main",
        "refs/heads/main refs/heads/other",
        "",
    ]
    bare.git("push", "-q", tmp_path / "bare", "main")
    assert (tmp_path / "seen").read_text().count("\n") == 2  # nothing to push: no lines, not an empty one


def test_a_hooks_folder_of_the_users_choice(bare, tmp_path):
    bare.git("config", "core.hooksPath", ".githooks")
    said = bare.dv("hooks", "install")
    assert "commit what changed there" in said
    assert (bare.root / ".githooks/pre-commit").exists() and not (bare.root / ".git/hooks/pre-commit").exists()
    bare.dv("hooks", "uninstall")
    bare.git("config", "core.hooksPath", str(tmp_path / "shared"))
    assert "other repositories may use it" in bare.dv("hooks", "install")
    assert bare.json("hooks", "status")["is_installed"]


def test_husky_gets_our_part_in_the_users_own_files(bare):
    """Husky generates what lies in `.husky/_` anew; each of those calls the user's file one folder above."""
    generated = bare.root / ".husky/_"
    bare.write({
        "h": '#!/usr/bin/env sh\nn=$(basename "$0")\ns=$(dirname "$(dirname "$0")")/$n\n[ ! -f "$s" ] && exit 0\nsh -e "$s" "$@"\n',
        "pre-commit": '#!/usr/bin/env sh\n. "$(dirname "$0")/h"\n', ".gitignore": "*",
    }, ".husky/_")  # fmt: skip
    for name in ("h", "pre-commit"):
        (generated / name).chmod(0o755)
    bare.write({".husky/pre-commit": "#!/bin/sh\necho husky-ran >&2\n"})
    (bare.root / ".husky/pre-commit").chmod(0o755)
    bare.git("config", "core.hooksPath", ".husky/_")
    before = (generated / "pre-commit").read_bytes()
    bare.dv("hooks", "install")
    assert (generated / "pre-commit").read_bytes() == before
    bare.write(FILES, "data")
    bare.dv("add", "data")
    assert "husky-ran" in bare.git("commit", "-m", "one")
    bare.write({"a": "two", "../x": "x"}, "data")
    bare.git("add", "x")
    said = bare.git("commit", "-m", "two")
    assert "husky-ran" in said and "its pointer is updated" in said


def test_a_linked_worktree_shares_the_hooks(work, tmp_path):
    work.git("worktree", "add", "-q", tmp_path / "other")
    other = Hooked(tmp_path / "other")
    assert other.json("hooks", "status")["is_installed"]
    assert "nothing to do" in other.dv("hooks", "install")


def test_autohooks_installs_by_itself(work):
    clone = work.clone()
    clone.git("config", "--global", "dvlite.autohooks", "true")
    assert "installed Git's hooks" in clone.dv("status")
    assert clone.json("hooks", "status")["is_installed"]


# ---- a commit -------------------------------------------------------------------------------------------------------


def test_changed_data_goes_into_the_commit(work):
    work.write({"a": "changed", "new": "new"}, "data")
    (work.root / "data/b").unlink()
    work.write({"code.py": "x"})
    work.git("add", "code.py")
    assert "'data' changed: its pointer is updated and staged" in work.git("commit", "-q", "-m", "two")
    assert work.git("status", "--porcelain") == ""
    work.git("clean", "-xfdq")
    work.dv("checkout", "-q")
    assert work.data() == {"a": "changed", "new": "new", "sub/c": "c", "sub/d": "d"}


def test_a_commit_of_data_alone_is_staged_and_made_the_second_time(work):
    work.write({"a": "changed"}, "data")
    assert "the same 'git commit' once more" in work.git("commit", "-m", "two", code=1)
    work.git("commit", "-q", "-m", "two")
    work.git("switch", "-q", "--detach", "HEAD~1")
    assert work.data() == FILES


@pytest.mark.parametrize(("stale", "code"), [("block", 1), ("ignore", 0)])
def test_policies_for_stale_data(work, stale, code):
    with (work.root / "dvlite.toml").open("a") as file:
        file.write(f'\n[policy]\nstale = "{stale}"\n')
    work.git("add", "dvlite.toml")
    work.write({"a": "changed"}, "data")
    before = work.pointer_of("HEAD")
    said = work.git("commit", "-q", "-m", "two", code=code)
    assert ("dvlite add data" in said) == (stale == "block")
    assert (work.root / "data.dvlite").read_text() == before


def test_more_than_the_limit_to_hash_blocks_with_the_line_to_paste(work):
    with (work.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\nstale_max_size = "1 kB"\n')
    work.git("add", "dvlite.toml")
    work.write({"a": "x" * 2000}, "data")
    assert "dvlite add data" in work.git("commit", "-q", "-m", "two", code=1)
    work.dv("add", "-q", "data")
    work.git("commit", "-q", "-m", "two")


def test_a_commit_of_some_paths_takes_only_their_pointers(work):
    work.write({"x": "1"}, "other")
    work.dv("add", "-q", "other")
    work.git("commit", "-q", "-m", "other")
    work.write({"data/a": "changed", "other/x": "changed", "code.py": "1"})
    work.git("add", "code.py")
    said = work.git("commit", "-q", "-m", "code alone", "code.py")
    assert "not in this commit: data, other ('dvlite add data other'" in said
    assert work.git("show", "--name-only", "--format=").split() == ["code.py"]
    work.dv("add", "-q", "data")
    work.write({"data/a": "changed once more"})
    work.git("commit", "-q", "-m", "data alone", "data.dvlite")
    assert work.git("show", "--name-only", "--format=").split() == ["data.dvlite"]
    assert work.git("status", "--porcelain") == ""  # the real index has what the hook staged in the temporary one
    assert work.json("status")["paths"][0]["changes"] == []
    work.git("commit", "-q", "--allow-empty", "-m", "the rest")
    assert work.git("show", "--name-only", "--format=").split() == ["other.dvlite"]


def test_a_staged_subset_takes_only_what_is_staged(work):
    work.write({"x": "1"}, "other")
    work.dv("add", "-q", "other")
    work.git("commit", "-q", "-m", "other")
    work.write({"data/a": "changed", "other/x": "changed"})
    work.dv("add", "-q", "data")
    assert "not in this commit: other" in work.git("commit", "-q", "-m", "data")
    assert work.git("show", "--name-only", "--format=").split() == ["data.dvlite"]


def test_commit_all_takes_data_too(work):
    work.write({"notes.txt": "1"})
    work.git("add", "notes.txt")
    work.git("commit", "-q", "-m", "notes")
    work.write({"notes.txt": "2", "data/a": "changed"})
    work.git("commit", "-q", "-a", "-m", "all")
    assert work.git("show", "--name-only", "--format=").split() == ["data.dvlite", "notes.txt"]
    assert work.git("status", "--porcelain") == ""


def test_a_pointer_of_data_that_was_never_stored_blocks(work):
    fake = work.pointer_of("HEAD").replace("sha256:", "sha256:0000")[:200]
    text = work.pointer_of("HEAD").split('"')
    text[1] = "sha256:" + "0" * 64
    work.write({"fake.dvlite": '"'.join(text)})
    work.git("add", "fake.dvlite")
    assert "never stored" in work.git("commit", "-q", "-m", "fake", code=1) and fake
    work.git("commit", "-q", "--no-verify", "-m", "fake")
    work.write({"code.py": "x"})
    work.git("add", "code.py")
    work.git("commit", "-q", "-m", "it is in Git now, and no reason to block others")


def test_a_pointer_from_another_branch_whose_data_is_not_here_does_not_block(forked, tmp_path):
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q", "--all")
    clone = forked.clone()
    clone.dv("hooks", "install", "-q")
    clone.git("checkout", "-q", "origin/side", "--", "data.dvlite")
    clone.git("commit", "-q", "-m", "taken from side")


def test_a_part_of_a_folder_whose_rest_is_not_here_can_be_changed_and_committed(forked, tmp_path):
    forked.dv("remote", "add", "-q", "origin", tmp_path / "remote")
    forked.git("commit", "-qam", "remote")
    forked.dv("push", "-q")
    clone = forked.clone()
    clone.dv("hooks", "install", "-q")
    clone.dv("pull", "-q", "data/a")
    clone.write({"data/a": "from the clone"})
    clone.dv("add", "-q", "data/a")
    clone.git("commit", "-q", "-m", "a part")
    clone.write({"data/a": "again", "code.py": "x"})
    clone.git("add", "code.py")
    clone.git("commit", "-q", "-m", "by the hook")
    clone.dv("pull", "-q")
    assert clone.data() == {**FILES, "a": "again"}


def test_conflict_markers_in_a_pointer_block(work):
    work.write({"data.dvlite": "<<<<<<< ours\nversion = 1\n=======\nversion = 1\n>>>>>>> theirs\n"})
    work.git("add", "data.dvlite")
    assert "conflict markers" in work.git("commit", "-q", "-m", "markers", code=1)


def test_large_files_staged_into_git_block_with_the_line_to_paste(work):
    with (work.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\ngit_max_size = "10 kB"\n')
    work.write({"large file.bin": "x" * 20_000})
    work.git("add", "dvlite.toml", "large file.bin")
    said = work.git("commit", "-q", "-m", "large", code=1)
    assert "git rm --cached -- 'large file.bin' && dvlite add 'large file.bin'" in said
    subprocess.run(
        "git rm -q --cached -- 'large file.bin' && dvlite add -q 'large file.bin'",
        shell=True,
        cwd=work.root,
        check=True,
    )
    work.git("commit", "-q", "-m", "tracked")


def test_data_that_a_pointer_stands_for_does_not_get_into_git(work):
    work.git("add", "-f", "data/a")
    said = work.git("commit", "-q", "-m", "data", code=1)
    assert "git rm --cached -- data/a" in said


def test_a_large_file_that_comes_by_a_merge_does_not_block(forked):
    forked.git("switch", "-q", "side")
    forked.write({"large.bin": "x" * 20_000})
    forked.git("add", "large.bin")
    forked.git("commit", "-q", "-m", "large, before the policy")
    forked.git("switch", "-q", "main")
    with (forked.root / "dvlite.toml").open("a") as file:
        file.write('\n[policy]\ngit_max_size = "10 kB"\n')
    forked.git("commit", "-qam", "policy")
    forked.git("merge", "-q", "-m", "m", "side")


def test_the_first_commit_of_a_repository(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "p"], check=True)
    project = Hooked(tmp_path / "p")
    project.dv("init", "-q")
    project.write(FILES, "data")
    project.dv("add", "-q", "data")
    project.git("commit", "-q", "-m", "first")
    assert project.git("status", "--porcelain") == ""


def test_what_a_commit_names_is_on_disk(work):
    work.write({"a": "changed"}, "data")
    work.dv("add", "-q", "data")
    assert list((work.root / ".git/dvlite/journal").iterdir())
    work.git("commit", "-q", "-m", "two")
    assert not list((work.root / ".git/dvlite/journal").iterdir())


# ---- a push ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(forked, tmp_path):
    """The forked project with a Git remote and a dvlite remote, both empty."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "bare"], check=True)
    forked.git("remote", "add", "origin", str(tmp_path / "bare"))
    forked.dv("remote", "add", "-q", "origin", tmp_path / "data-remote")
    forked.git("commit", "-qam", "remote")
    forked.place = tmp_path / "data-remote"
    return forked


def pulled(project, tmp_path, rev):
    subprocess.run(["git", "clone", "-q", "-b", rev, tmp_path / "bare", tmp_path / f"pulled-{rev}"], check=True)
    clone = Hooked(tmp_path / f"pulled-{rev}")
    clone.dv("remote", "add", "-q", "--local", "--force", "origin", project.place)
    clone.dv("pull", "-q")
    return clone.data()


def test_a_push_sends_the_data_of_the_pushed_commits_whatever_is_checked_out(shared, tmp_path):
    assert "pushed to 'origin'" in shared.git("push", "-q", "origin", "side")
    shared.git("push", "-q", "origin", "main")
    assert pulled(shared, tmp_path, "main") == {**FILES, "a": "main"}
    assert pulled(shared, tmp_path, "side") == {**FILES, "b": "side"}


def test_only_the_pushed_branchs_data_goes(shared):
    shared.git("push", "-q", "origin", "side")
    main = shared.repo.store
    from dvlite import refs, transfer

    sent = set(shared.repo.remote().find(list(main.oids())))
    at_main = transfer.reach([refs.at(shared.repo.git, "main").found["data"].entry], main)
    assert at_main.blobs.keys() - sent


def test_deleting_a_branch_or_pushing_a_tag_of_known_commits_sends_nothing(shared):
    shared.git("push", "-q", "origin", "main", "side")
    before = {path: path.stat().st_mtime_ns for path in shared.place.rglob("*")}
    shared.git("tag", "-a", "v1", "-m", "v1")
    shared.git("push", "-q", "origin", "v1")
    shared.git("push", "-q", "origin", ":side")
    shared.git("push", "-q", "origin", "--delete", "v1")
    assert {path: path.stat().st_mtime_ns for path in shared.place.rglob("*")} == before


def test_a_push_without_a_dvlite_remote_is_refused_only_if_it_names_data(forked, tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True)
    said = forked.git("push", "-q", tmp_path / "bare", "main", code=1)
    assert "dvlite remote add origin URL" in said
    forked.git("push", "-q", "--no-verify", tmp_path / "bare", "main")
    forked.git("remote", "add", "origin", str(tmp_path / "bare"))
    forked.git("fetch", "-q", "origin")
    forked.write({"code.py": "x"})
    forked.git("add", "code.py")
    forked.git("commit", "-q", "-m", "code")
    forked.git("push", "-q", "origin", "main", code=1)  # that push was let pass, not all that follow
    forked.git("switch", "-q", "--orphan", "pages")
    forked.git("commit", "-q", "--allow-empty", "-m", "no data")
    forked.git("push", "-q", "origin", "pages")


def test_a_push_whose_data_cannot_be_sent_is_refused(shared):
    shared.place.write_text("a file where the remote should be")
    shared.git("push", "-q", "origin", "main", code=1)
    assert shared.git("ls-remote", "origin") == ""


def test_data_that_is_nowhere_is_named_and_may_be_let_pass(shared):
    item = shared.repo.store
    from dvlite import refs

    entry = refs.at(shared.repo.git, "HEAD~2").found["data"].entry
    from dvlite import transfer

    lost = (
        transfer.reach([entry], item).blobs.keys()
        - transfer.reach([refs.at(shared.repo.git, "HEAD").found["data"].entry], item).blobs.keys()
    )
    assert lost
    for path in shared.packs():
        path.unlink()
    (shared.root / "data.dvlite").touch()
    shared.dv("add", "-q", "--force", "data")  # only what is here now can be stored anew
    said = shared.git("push", "-q", "origin", "main", code=1)
    assert "neither here nor on remote" in said and "allowIncompletePush" in said
    shared.git("config", "dvlite.allowIncompletePush", "true")
    assert "pushed all the same" in shared.git("push", "-q", "origin", "main")


def test_a_force_push_and_a_ref_that_is_not_known_here(shared, tmp_path):
    shared.git("push", "-q", "origin", "main")
    other = Hooked(tmp_path / "elsewhere")
    subprocess.run(["git", "clone", "-q", tmp_path / "bare", other.root], check=True)
    other.git("commit", "-q", "--allow-empty", "-m", "not known to the first")
    other.git("push", "-q", "origin", "main")
    shared.git("commit", "-q", "--amend", "-m", "another")
    shared.git("push", "-q", "--force", "origin", "main")


def test_every_event_has_its_block(work):
    for event in EVENTS:
        path = work.root / ".git/hooks" / event
        assert os.access(path, os.X_OK)
        subprocess.run(["sh", "-n", path], check=True)
        done = subprocess.run(["dash", "-n", path], capture_output=True)
        assert done.returncode == 0
