// Runs prepare-root as a program, for tests that call it in a mount namespace of its own.
//
// PREPARE_ROOT_KERNEL (JSON) stands in for what the kernel can do, so that the ways of older kernels
// are exercised on a newer one.

import { probeKernel } from "../../initrd/kernel-features.ts";
import { runPrepareRoot } from "../../initrd/main.ts";
import { parseOptions } from "../../initrd/options.ts";
import { prepareRoot } from "../../initrd/prepare-root.ts";
import { describeError } from "../../shared/error.ts";

const argv = process.argv.slice(2);
const kernel = process.env["PREPARE_ROOT_KERNEL"];
if (kernel === undefined) {
  process.exitCode = runPrepareRoot(argv);
} else {
  const probe = () => ({ ...probeKernel(), ...JSON.parse(kernel) });
  try {
    console.log(prepareRoot(parseOptions(argv)!, { early: false, probe }).text);
  } catch (error) {
    console.error(`refused: ${describeError(error)}`);
    process.exitCode = 1;
  }
}
