// What a machine tells others (TEST_ALL=1), with the real logind, journald and systemd: status for every user, the
// units that are started when something changed, /run/reboot-required, records, and a restart that waits.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EVENTS } from "../../updater/journal/events.ts";
import { ensureInstalledDisk, ensureMedia } from "./installed-disk.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import type { OsImage } from "./os-image.ts";
import { ensureProductImages } from "./product-image.ts";

const SLOW_MS = 600_000;
/** Where the installed disk's image came from, and where it is updated from. */
const MEDIA = "/run/work/media";
const AS_USER = "runuser -u nobody --";

describe.skipIf(process.env["TEST_ALL"] === undefined)("what a machine tells", () => {
  let machine: Machine;
  let v2: OsImage;
  const must = (command: string) => machine.must(command, { timeoutMs: SLOW_MS });

  beforeAll(async () => {
    const images = await ensureProductImages(console.log);
    v2 = images.v2;
    const disk = await ensureInstalledDisk(images.v1, {
      ...silentNarrator,
      progress: console.log,
    });
    machine = await startMachine({
      name: "notices",
      boot: { kind: "uefi" },
      disks: [
        { id: "disk", path: disk, mode: "overlay" },
        { id: "stick2", path: await ensureMedia(v2), mode: "read" },
      ],
    });
    await machine.waitReady(SLOW_MS);
    await must(`mkdir -p ${MEDIA} && mount -o ro /dev/disk/by-id/virtio-stick2 ${MEDIA}`);
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("every user has a status, and it is root's", async () => {
    const root = await must("bootc status --format json");
    expect(await must(`${AS_USER} bootc status --format json`)).toBe(root);
    expect(JSON.parse(root).status).toMatchObject({ type: "bootcHost", staged: null });
    const refused = await machine.run(`${AS_USER} bootc upgrade`);
    expect(refused).toMatchObject({ code: 1, output: expect.stringContaining("root user") });
    await must("systemctl stop bootc-status.socket");
    const nobody = await machine.run(`${AS_USER} bootc status`);
    expect(nobody).toMatchObject({ code: 1, output: expect.stringContaining("sudo bootc status") });
    await must("systemctl start bootc-status.socket");
  });

  test("a check tells what it found, and starts who wants to know", async () => {
    await must(`mkfifo /run/heard && cat >/run/systemd/system/listener.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/sh -c "echo heard >/run/heard"
END
systemctl daemon-reload && systemctl add-wants --runtime bootc-status-updated.target listener.service`);
    expect(await must("bootc upgrade --check")).toMatch(/^Update available for: .*os.oci$/m);
    expect(await must("cat /run/heard")).toBe("heard");
    const { status } = JSON.parse(await must(`${AS_USER} bootc status --format json`));
    expect(status.booted.cachedUpdate.imageDigest).toBe(v2.manifestDigest);
    expect(await must(`journalctl -o cat MESSAGE_ID=${EVENTS.updateAvailable.id}`)).toMatch(
      /^Update available for /,
    );
  });

  test("a staged update asks for a restart", async () => {
    expect((await machine.run("test -e /run/reboot-required")).code).toBe(1);
    await must("systemctl stop listener.service && bootc upgrade --quiet");
    expect(await must("cat /run/heard /run/reboot-required")).toBe(
      `heard\nbootc: Reboot required for image: ${v2.manifestDigest}`,
    );
    const record = JSON.parse(await must(`journalctl -o json MESSAGE_ID=${EVENTS.staged.id}`));
    expect(record).toMatchObject({ BOOTC_DIGEST: v2.manifestDigest, BOOTC_DOWNLOAD_ONLY: "no" });
  });

  test("the restart waits for who is against it, and for nobody else", async () => {
    // The lock is there when the program that it protects runs.
    await must(`mkfifo /run/held /run/said
systemd-run -q --unit=holder systemd-inhibit --what=shutdown --mode=block --who=backup --why=Nightly \\
  sh -c "echo held >/run/held; exec sleep infinity"
cat /run/held`);
    await must(`systemd-run -q --unit=updater -p StandardError=file:/run/said bootc upgrade --apply --quiet
head -n 1 /run/said >/run/first-line`);
    expect(await must("cat /run/first-line")).toMatch(/^Waiting to restart: backup .*"Nightly"$/);
    expect(await must("systemctl is-active updater")).toBe("active");
    // The verb's lock is free meanwhile.
    await must("bootc internals gc --dry-run");
    await must("systemctl stop --no-block holder");
    await machine.waitReady(SLOW_MS);
    const { status } = JSON.parse(await must("bootc status --format json"));
    expect(status.booted.image.imageDigest).toBe(v2.manifestDigest);
    expect((await machine.run("test -e /run/reboot-required")).code).toBe(1);
  });
});
