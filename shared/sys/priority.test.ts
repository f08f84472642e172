import { execFileSync } from "node:child_process";
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { expect, test } from "vitest";
import { attemptSyscall } from "./libc.ts";
import { stepAside } from "./priority.ts";

const nice = () => 20 - attemptSyscall("getpriority", 0, 0);
const diskPriority = () => {
  const thread = basename(readlinkSync("/proc/thread-self"));
  return execFileSync("ionice", ["-p", thread], { encoding: "utf8" }).trim();
};

test("steps aside, and takes its place again when it may", () => {
  const [processor, disk] = [nice(), diskPriority()];
  {
    using _aside = stepAside();
    expect(nice()).toBe(19);
    expect(diskPriority()).toBe("idle");
  }
  expect(nice()).toBe(process.getuid?.() === 0 ? processor : 19);
  expect(diskPriority()).toBe(disk);
});
