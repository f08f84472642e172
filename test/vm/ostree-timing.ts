// How long a prepare-root takes in the waiting initramfs, from its start to the end of its process, when
// the root is mounted. Invariants: both programs run in turn in the same guest, each in a mount namespace
// of its own, so that every run finds the same; the time is the guest's, its clock is monotonic.

import type { Machine } from "./machine.ts";

const KINDS = ["cold", "warm"] as const;
type Kind = (typeof KINDS)[number];

type ProgramTime = {
  readonly name: string;
  /** "cold": the disk's caches were dropped before. */
  readonly kind: Kind;
  readonly code: number;
  readonly wallUs: number;
  /** User and system time. */
  readonly cpuMs: number;
};

const ROUNDS = 5;
const SLOW_MS = 600_000;

/** Five times each of "cold" and "warm". */
export async function timePrograms(
  machine: Machine,
  programs: Readonly<Record<string, string>>,
): Promise<ProgramTime[]> {
  const times: ProgramTime[] = [];
  const rounds = Array.from({ length: ROUNDS }, () => KINDS).flat();
  for (const kind of rounds) {
    for (const [name, program] of Object.entries(programs)) {
      times.push({ name, kind, ...(await timeOnce(machine, program, kind)) });
    }
  }
  return times;
}

async function timeOnce(
  machine: Machine,
  program: string,
  kind: Kind,
): Promise<Pick<ProgramTime, "code" | "wallUs" | "cpuMs">> {
  const drop = kind === "warm" ? "" : "echo 3 >/proc/sys/vm/drop_caches;";
  const output = await machine.must(
    `unshare --mount --propagation private bash -c '
      mount -t tmpfs -o mode=0755 run /run
      words=$(cat /proc/cmdline) code=0
      ${drop} TIMEFORMAT="%3R %3U %3S"
      { time ${program} /sysroot "$words" >/tmp/output 2>&1; } 2>&1; code=$?
      echo "$code"'`,
    { timeoutMs: SLOW_MS },
  );
  const [wall = 0, user = 0, system = 0, code = -1] = output.split(/\s+/).map(Number);
  return { code, wallUs: wall * 1e6, cpuMs: (user + system) * 1e3 };
}

/** Lines of text with medians in milliseconds. */
export function describeTimes(what: string, times: readonly ProgramTime[]): string {
  const names = [...new Set(times.map(({ name }) => name))];
  const lines = KINDS.flatMap((kind) =>
    names.map((name) => {
      const own = times.filter((time) => time.name === name && time.kind === kind);
      const wall = own.map(({ wallUs }) => wallUs / 1e3).toSorted((a, b) => a - b);
      const cpu = own.map(({ cpuMs }) => cpuMs).toSorted((a, b) => a - b);
      const middle = (list: readonly number[]) => Math.round(list[list.length >> 1] ?? 0);
      const range = `${Math.round(wall[0] ?? 0)} to ${Math.round(wall.at(-1) ?? 0)}`;
      return `${what}, ${kind}, ${name}: ${middle(wall)} ms (${range}), CPU ${middle(cpu)} ms`;
    }),
  );
  return lines.join("\n");
}
