// Starts that fail in every way: the machine is back in the deployment before by itself, says which one failed
// and why, and does not take that image again. What a good start does is seen in story.test.ts.

import { beforeAll, describe, expect, it } from "vitest";
import { keepEvidence } from "./keep-evidence.ts";
import type { Machine } from "./machine.ts";
import type { SavedState } from "./saved-state.ts";
import {
  addUnit,
  ensureTrialState,
  failAndFallBack,
  listEntries,
  startTrial,
} from "./trial-machine.ts";

const isLong = process.env["TEST_ALL"] === "1";

let state: SavedState;

beforeAll(async () => {
  state = await ensureTrialState();
});

interface Failure {
  readonly id: string;
  readonly reason: string;
  readonly detail: string;
  readonly attempts: number;
}

async function inTrial(name: string, work: (machine: Machine) => Promise<void>): Promise<void> {
  await using machine = await startTrial(state, name);
  await keepEvidence(machine, () => work(machine));
}

/** After the fallback: one deployment failed, and its entry is the one without tries. */
async function readFailure(machine: Machine): Promise<Failure> {
  await machine.must("systemctl is-active bootc-boot-review.service");
  expect(await machine.must("systemctl --failed --no-legend")).toBe("");
  expect((await machine.run("journalctl -b -q -g 'ordering cycle'")).output).toBe("");
  const entries = await listEntries(machine);
  expect(entries.filter((name) => name.endsWith("+0-1.conf"))).toHaveLength(1);
  expect(entries).toHaveLength(2);
  const file = await machine.must("cat /sysroot/state/bootc/boot-failures.json");
  const { failures } = JSON.parse(file) as { failures: Failure[] };
  expect(failures).toHaveLength(1);
  await machine.must("test ! -e /sysroot/state/bootc/boot-trial.json");
  return failures[0]!;
}

const check = `mkdir -p /etc/bootc/health.d
cat > /etc/bootc/health.d/50-version <<'END'
#!/bin/sh
echo "looking at the version"
! grep -q demo.version=2 /proc/cmdline
END
chmod 755 /etc/bootc/health.d/50-version`;

describe.sequential("a start on trial", () => {
  it("fails its health check: falls back, says so, and is not staged again", () =>
    inTrial("check", async (machine) => {
      await machine.must(check);
      // By itself an ordering cycle: the generator must turn it round.
      await machine.must(`cat > /etc/systemd/system/late.service <<'END'
[Unit]
Requires=boot-complete.target
After=boot-complete.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
END`);
      await machine.must("systemctl enable --quiet late.service");
      await failAndFallBack(machine);
      const begun = await machine.must(
        "systemctl show --value -p ActiveEnterTimestampMonotonic boot-complete.target late.service",
      );
      const [complete, late] = begun.split(/\s+/).map(Number) as [number, number];
      expect(complete).toBeGreaterThan(0);
      expect(late).toBeGreaterThanOrEqual(complete);
      const failure = await readFailure(machine);
      expect(failure).toMatchObject({
        reason: "unit",
        detail: 'Health check "50-version" failed (exit status 1)',
        attempts: 1,
      });
      const status = await machine.must("bootc status --format json");
      expect(status).toContain(failure.id);
      expect(await machine.must("bootc status --format humanreadable")).toMatch(/50-version/);
      const journal = await machine.must("journalctl -b -o cat -u bootc-boot-health.service");
      expect(journal).toMatch(/looking at the version[\s\S]*50-version: good/);
      await machine.must(
        "mount -o ro /dev/disk/by-id/virtio-stick2 /var/mnt/usb || mountpoint /var/mnt/usb",
      );
      const again = await machine.run("bootc switch --quiet --transport oci /var/mnt/usb/os.oci", {
        timeoutMs: 600_000,
      });
      expect(again.output).toMatch(/did not start.*50-version.*--retry-failed/);
      expect(again.code).toBe(1);
    }));

  const cases: [
    name: string,
    command: string,
    reason: RegExp,
    detail: RegExp,
    unit?: Parameters<typeof addUnit>[2],
  ][] = [
    // In the first moments of systemd, when nothing of ours has run but prepare-root.
    ["kernel panic", "echo c > /proc/sysrq-trigger", /unknown/, /was mounted/, { early: true }],
    ["crash of PID 1", "kill -SEGV 1", /unknown/, /was mounted/, { early: true }],
    [
      "hang",
      "sleep infinity",
      /unit/,
      /Not complete in time, waiting for .*fault\.service/,
      { unit: "Before=multi-user.target" },
    ],
    [
      "panic that stays, with a watchdog",
      "sysctl -w kernel.panic=0; echo c > /proc/sysrq-trigger",
      /watchdog/,
      /watchdog restarted .* after the system was mounted/,
    ],
  ];
  for (const [name, command, reason, detail, unit = {}] of cases) {
    it.skipIf(!isLong)(`ends in a ${name}: falls back`, () =>
      inTrial(name.replaceAll(/\W+/g, "-"), async (machine) => {
        await machine.must(
          "mkdir -p /etc/systemd/system/bootc-boot-deadline.timer.d && printf '[Timer]\\nOnActiveSec=\\nOnActiveSec=90s\\n' > /etc/systemd/system/bootc-boot-deadline.timer.d/soon.conf",
        );
        await addUnit(machine, command, unit);
        await failAndFallBack(machine);
        const failure = await readFailure(machine);
        expect(failure.reason).toMatch(reason);
        expect(failure.detail).toMatch(detail);
      }),
    );
  }

  it.skipIf(!isLong)("is a soft reboot that fails its check: a whole restart, and falls back", () =>
    inTrial("soft", async (machine) => {
      await machine.must(
        check.replace("demo.version=2 /proc/cmdline", "2 /usr/lib/bootc-demo/version"),
      );
      // The same arguments, so that the running kernel will do.
      await machine.must(`mkdir -p /run/esp && mount /dev/disk/by-partlabel/esp /run/esp &&
        sed -i s/demo.version=2/demo.version=1/ /run/esp/loader/entries.staged/*+1.conf && umount /run/esp`);
      const kernel = "cat /proc/sys/kernel/random/boot_id";
      const before = await machine.must(kernel);
      await machine.softReboot(900_000, "bootc internals prep-soft-reboot --reboot");
      // Version 2 has a shell before it is checked.
      await machine.waitNextBoot(900_000);
      await machine.must("systemctl is-system-running --wait", { timeoutMs: 900_000 });
      expect(await machine.must(kernel)).not.toBe(before);
      expect(await machine.must("cat /usr/lib/bootc-demo/version")).toBe("1");
      expect(await readFailure(machine)).toMatchObject({
        reason: "unit",
        detail: 'After a soft reboot: Health check "50-version" failed (exit status 1)',
        attempts: 1,
      });
    }),
  );

  it.skipIf(!isLong)("has a damaged image: prepare-root refuses it, the reason is kept", () =>
    inTrial("verity", async (machine) => {
      const id = await machine.must(
        `sed -n 's/.*"depl_id":"\\([0-9a-f]*\\)".*/\\1/p' /run/composefs/staged-deployment`,
      );
      // After the finalizing, which would notice: what starts before that unit is stopped after it.
      await machine.must(`cat > /var/damage <<'END'
#!/bin/sh
mount -o remount,bind,rw /sysroot && cd /sysroot/composefs/images && o=$(readlink -f ${id}) || exit 1
cp $o $o.new && printf x | dd of=$o.new bs=1 seek=9000 conv=notrunc status=none && mv -f $o.new $o && sync
END
chmod 755 /var/damage
systemd-run --unit=damage -p Type=oneshot -p RemainAfterExit=yes -p PrivateMounts=yes \\
  -p Before=bootc-finalize-staged.service -p ExecStop=/var/damage /bin/true`);
      await failAndFallBack(machine);
      expect(await readFailure(machine)).toMatchObject({ id, reason: "verity" });
    }),
  );
});
