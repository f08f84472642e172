// Unit tests live beside the code; whatever needs vectors, root, servers or a VM lives under test/.
// Real processes ("forks"), because mounts, cwd and umask are per process.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    pool: "forks",
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: [
            "{shared,initrd,updater}/**/*.test.ts",
            "test/*.test.ts",
            "test/support/**/*.test.ts",
            "test/vectors/**/*.test.ts",
          ],
        },
      },
      {
        extends: true,
        test: {
          name: "root",
          include: ["test/integration/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 1_800_000,
        },
      },
      {
        extends: true,
        test: {
          name: "vm",
          include: ["test/vm/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 900_000,
          hookTimeout: 2_400_000,
        },
      },
    ],
  },
});
