import { expect, test } from "vitest";
import { StateError, UnsupportedError } from "../../shared/error.ts";
import { hasProgram, runProgram } from "./program.ts";

const shell = { package: "dash" };

test("gives back what the program wrote; arguments pass through no shell", () => {
  expect(runProgram("printf", ["%s|", "$HOME", "a b"], { package: "coreutils" })).toBe(
    "$HOME|a b|",
  );
  expect(runProgram("sh", ["-c", "echo $X"], { ...shell, environment: { X: "1" } })).toBe("1\n");
});

test("a failing program's last words are in the error; some codes may be accepted", () => {
  const args = ["-c", "echo one >&2; echo two >&2; exit 3"];
  expect(() => runProgram("sh", args, shell)).toThrow(StateError);
  expect(() => runProgram("sh", args, shell)).toThrow("failed: one; two");
  expect(runProgram("sh", args, { ...shell, accept: [3] })).toBe("");
  expect(() => runProgram("sh", ["-c", "kill -9 $$"], shell)).toThrow("killed by SIGKILL");
});

test("a missing program names its package", () => {
  const run = () => runProgram("no-such-program", [], { package: "no-such-package" });
  expect(run).toThrow(UnsupportedError);
  expect(run).toThrow('install the package "no-such-package"');
  expect([hasProgram("no-such-program"), hasProgram("sh")]).toEqual([false, true]);
});
