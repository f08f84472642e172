// The units that are installed, and the examples of docs/automatic-updates.md, as systemd reads them, and what our
// generator adds:
// systemd-analyze of the systemd tools root, on a copy of its root with our files in it.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXECUTABLE } from "../../scripts/build.ts";
import { installFiles } from "../../scripts/install-files.ts";
import { runInMountNamespace } from "../support/mount-namespace.ts";
import { ROOT as PROJECT } from "../support/source-tree.ts";
import { ensureSystemdTools } from "../support/systemd-tools.ts";

interface Example {
  readonly path: string;
  readonly text: string;
}

const GUIDE = readFileSync(join(PROJECT, "docs/automatic-updates.md"), "utf8");
const examples: readonly Example[] = [
  ...GUIDE.matchAll(/^`(\/etc\/systemd\/system\/\S+)`\n\n```ini\n(.*?)^```$/gms),
].map(([, path, text]) => ({ path: path!, text: text! }));

let tools: string;
let scratch: string;
beforeAll(async () => {
  tools = await ensureSystemdTools(console.log);
  scratch = mkdtempSync(join(tmpdir(), "units-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** What `systemd-analyze` says in a root that has our files and these. */
function analyze(files: readonly Example[], command: string): { output: string; code: number } {
  const upper = mkdtempSync(join(scratch, "upper-"));
  installFiles(upper, EXECUTABLE);
  for (const { path, text } of files) {
    mkdirSync(dirname(join(upper, path)), { recursive: true });
    writeFileSync(join(upper, path), text);
  }
  const root = join(scratch, "root");
  mkdirSync(root, { recursive: true });
  const script = `
    mount -t overlay overlay -o "ro,lowerdir=$UPPER:$TOOLS" "$ROOT"
    mount -t proc proc "$ROOT/proc"
    mount -t tmpfs run "$ROOT/run"
    mount -t tmpfs tmp "$ROOT/tmp"
    step analyze chroot "$ROOT" sh -c "$COMMAND"
  `;
  const environment = { UPPER: upper, TOOLS: tools, ROOT: root, COMMAND: command };
  return runInMountNamespace(script, environment).get("analyze")!;
}

const VERIFY = `cd /usr/lib/systemd/system && systemd-analyze verify --man=no bootc-*`;

describe("systemd-analyze verify", () => {
  test("finds nothing in our units", () => {
    expect(analyze([], VERIFY)).toEqual({ output: "", code: 0 });
  });

  test("finds what is wrong", () => {
    const path = "/etc/systemd/system/bootc-fetch-apply-updates.timer.d/50-wrong.conf";
    const { output } = analyze([{ path, text: "[Timer]\nOnCalendar=Someday\nNoSuch=1\n" }], VERIFY);
    expect(output).toMatch(/Failed to parse calendar specification/);
    expect(output).toMatch(/Unknown key.*NoSuch/);
  });

  test("the guide has examples", () => {
    expect(examples.map(({ path }) => path.split("/").at(-1))).toEqual([
      ...["50-window.conf", "50-fetch-only.conf", "bootc-apply-updates.service"],
      ...["bootc-apply-updates.timer", "50-stage-only.conf", "60-gently.conf"],
      "tell-inventory.service",
    ]);
  });

  test.each(examples)("finds nothing in the example $path", (example) => {
    // A unit of its own may need another one of the guide.
    const own = examples.filter(({ path }) => /\.(service|timer)$/.test(path));
    const names = own.map(({ path }) => path).join(" ");
    const files = own.includes(example) ? own : [example, ...own];
    expect(analyze(files, `${VERIFY} ${names}`)).toEqual({ output: "", code: 0 });
  });
});

describe("units that come after boot-complete.target", () => {
  const place = (name: string, text: string): Example => ({
    path: `/etc/systemd/system/${name}`,
    text: `[Unit]\n${text}\n[Service]\nType=oneshot\nExecStart=/bin/true\n`,
  });
  /** As podman's own has it. */
  const late = place("late.service", "Requires=boot-complete.target\nAfter=boot-complete.target");
  const later = place("even\\x2dlater.service", "After = network.target late.service");
  const dropIn = {
    path: "/etc/systemd/system/plain.service.d/10-late.conf",
    text: "[Unit]\nAfter=boot-complete.target\n",
  };
  const plain = place("plain.service", "Description=plain");
  const cases: [string, readonly Example[]][] = [
    ["a unit", [late]],
    ["a unit that comes after such a unit", [late, later]],
    ["a unit with a drop-in that says so", [plain, dropIn]],
  ];
  const wanted = (files: readonly Example[]) => {
    const names = files.map(({ path }) => path.split("/").at(-1)!);
    const services = names.filter((name) => name.endsWith(".service"));
    const links = services.map((name) => `ln -s '/etc/systemd/system/${name}' $w/`);
    return ["w=/run/systemd/system/multi-user.target.wants", "mkdir -p $w", ...links].join("; ");
  };
  const verify = (files: readonly Example[], generators: boolean) => {
    const analysis = `systemd-analyze verify --man=no --generators=${generators ? "yes" : "no"} multi-user.target`;
    return analyze(files, `${wanted(files)}; ${analysis} 2>&1 | grep -i cycle`).output;
  };

  test.each(cases)("%s: no cycle with the generator, one without", (_, files) => {
    expect(verify(files, false)).toMatch(/ordering cycle/i);
    expect(verify(files, true)).toBe("");
  });
});

describe("calendars of the guide", () => {
  const calendars = examples.flatMap(({ text }) => text.match(/(?<=^OnCalendar=).+$/gm) ?? []);

  test.each([
    ["Sat,Sun *-*-* 02:00", "Sat 2026-11-28 02:00:00"],
    ["Sun *-*-* 03:00", "Sun 2026-11-29 03:00:00"],
  ])("%s is next at the time that is meant", (calendar, next) => {
    expect(calendars).toContain(calendar);
    const command = `systemd-analyze calendar --base-time="2026-11-23 00:00:00" "${calendar}"`;
    expect(analyze([], command).output).toMatch(new RegExp(`Next elapse: ${next}`));
  });

  test("all are checked", () => {
    expect(calendars).toHaveLength(2);
  });
});

describe("what the units ask for", () => {
  const unit = (name: string) => readFileSync(join(PROJECT, "systemd", name), "utf8");

  test("the timer runs what is documented", () => {
    expect(unit("bootc-fetch-apply-updates.service")).toContain(
      "ExecStart=/usr/bin/bootc upgrade --apply --quiet\n",
    );
    expect(unit("bootc-fetch-apply-updates.timer")).toMatch(
      /OnBootSec=1h\n[\s\S]*OnUnitInactiveSec=8h\nRandomizedDelaySec=2h\n/,
    );
  });

  test("the path unit watches what verbs touch", () => {
    expect(unit("bootc-status-updated.path")).toContain("PathChanged=/sysroot/ostree/bootc\n");
    expect(unit("bootc-status.socket")).toContain("ListenStream=/run/bootc/status.socket\n");
  });
});
