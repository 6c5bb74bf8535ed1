"""A replay as the victim of a sweep: records that were set aside go into outputs that an earlier run made."""

from __future__ import annotations

import shutil

from tests.faults.harness.sweep import REJECTS, Job, temporaries, undisturbed, visible

__all__ = ["Replay"]


class Replay(Job):
    """`before` is what a run without --null left, `clean` what its replay with --null makes of it."""

    replays = False  # until the run that sets records aside is over

    @property
    def command(self) -> list[str]:
        """The arguments of `aiopipe`."""
        into, out = str(self.root / "in"), str(self.out)
        stages = ["read", into, "--block", "4KB", "--types", "id=BIGINT"]
        rest = ["then", "derive", "twice=id * 2", "then", "write", f"{out}/"]
        if self.replays:
            job = ["replay", "--workers", str(self.workers), f"{out}/{REJECTS}"]
            return [*job, *stages, "--null", "NA", *rest]
        job = ["pipe", "--workers", str(self.workers), "--rejects", f"{out}/{REJECTS}", "--no-progress"]
        return [*job, *stages, *rest]

    def prepare(self) -> None:
        """Write the input, run the job, and replay it once undisturbed."""
        into = self.root / "in"
        for name, count in (("0.csv", 6), ("sub/1.csv", 900), ("2.csv", 3), ("good.csv", 5)):
            lines = [f"{j if j % 5 or name == 'good.csv' else 'NA'},word {j}\n" for j in range(count)]
            if name == "2.csv":
                lines.append("never,mended\n")
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_text("id,text\n" + "".join(lines))
        self.out.mkdir()
        assert undisturbed(self) == 3
        shutil.move(self.out, self.root / "before")
        self.before = visible(self.root / "before")
        self.replays = True
        self.reset()
        assert undisturbed(self) == 3
        self.clean = visible(self.out)
        assert temporaries(self.out) == []
        assert [n for n in self.clean if self.clean[n] == self.before[n]] == ["good.csv"]
