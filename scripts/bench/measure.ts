// Runs a program many times and keeps what matters: wall time and CPU time.
//
// Not its peak memory: what wait4(2) tells begins with that of the process that started it. Programs
// that matter tell their own.

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

interface Summary {
  readonly firstMs: number;
  readonly medianMs: number;
  readonly p95Ms: number;
  readonly cpuMs: number;
}

export interface Command {
  readonly argv: readonly string[];
  /** The name the program is called by, when it is not its path. */
  readonly argv0?: string;
  /** Exit code of success; a program that is wrong here would be measured all the same. */
  readonly expected?: number;
}

/** The samples in the order of the runs. Throws when a run ends otherwise than expected. */
export function measure({ argv, argv0, expected = 0 }: Command, runs: number): readonly Sample[] {
  return Array.from({ length: runs }, () => {
    const started = performance.now();
    const result = Bun.spawnSync([...argv], {
      stdout: "pipe",
      stderr: "pipe",
      ...(argv0 === undefined ? {} : { argv0 }),
    });
    const wallMs = performance.now() - started;
    if (result.exitCode !== expected) {
      throw new Error(
        `${argv.join(" ")} ended with ${result.exitCode}: ${result.stderr.toString()}`,
      );
    }
    return { wallMs, cpuMs: Number(result.resourceUsage.cpuTime.total) / 1000 };
  });
}

export function summarize(samples: readonly Sample[]): Summary {
  const walls = samples.map(({ wallMs }) => wallMs);
  return {
    firstMs: walls[0] ?? 0,
    medianMs: quantile(walls, 0.5),
    p95Ms: quantile(walls, 0.95),
    cpuMs: quantile(
      samples.map(({ cpuMs }) => cpuMs),
      0.5,
    ),
  };
}

function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

export const formatMb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
export const formatMs = (ms: number) => `${ms.toFixed(1)} ms`;

/** A Markdown table. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    line(head),
    line(head.map((_, index) => (index === 0 ? "---" : "---:"))),
    ...rows.map(line),
  ].join("\n");
}
