import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";

/** Says "ready", then what interrupted it; a second signal is left to the system. */
const SCRIPT = `
  const { watchInterruption } = await import("${import.meta.dirname}/interruption.ts");
  const interruption = watchInterruption();
  const keep = setTimeout(() => {}, 20_000);
  interruption.signal.addEventListener("abort", () => {
    console.log(interruption.signal.reason.message);
    if (process.env.ENDS === "1") clearTimeout(keep);
  });
  console.log("ready");
`;

async function start(prefix: string, ends: boolean) {
  const child = spawn("sh", ["-c", `${prefix} exec "$0" -e "$1"`, process.execPath, SCRIPT], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ENDS: ends ? "1" : "0" },
  });
  const lines = child.stdout.setEncoding("utf8")[Symbol.asyncIterator]();
  // Listened for from the start, and not "close": that one waits for somebody to read the pipe to its end.
  const exited = once(child, "exit");
  expect((await lines.next()).value).toBe("ready\n");
  return { child, lines, exited };
}

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s aborts, and the program goes on",
  async (name) => {
    const { child, lines, exited } = await start("", true);
    child.kill(name);
    expect((await lines.next()).value).toBe(`Interrupted by ${name}; nothing was changed\n`);
    const [code, signal] = await exited;
    expect([code, signal]).toEqual([0, null]);
  },
);

test("the second one ends it", async () => {
  const { child, lines, exited } = await start("", false);
  child.kill("SIGTERM");
  await lines.next();
  child.kill("SIGTERM");
  const [, signal] = await exited;
  expect(signal).toBe("SIGTERM");
});

test("what is ignored stays ignored", async () => {
  const { child, lines, exited } = await start("trap '' HUP;", true);
  child.kill("SIGHUP");
  child.kill("SIGTERM");
  expect((await lines.next()).value).toContain("Interrupted by SIGTERM");
  await exited;
});
