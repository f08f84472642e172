// A helper that hangs is not waited for; credentials.test.ts has everything else about helpers.

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { StateError } from "../../shared/error.ts";
import { makeConfigPlace } from "../../test/support/config-place.ts";
import { askCredentialHelper } from "./credential-helper.ts";

test.each([
  ["itself", "exec sleep 600"],
  // The shell dies of the kill, its child keeps the pipes open.
  ["with a child", "sleep 5; true"],
])("a helper that takes too long %s", async (_name, script) => {
  const { root, ...place } = makeConfigPlace({}, {});
  const path = join(root, "docker-credential-slow");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  const environment = { PATH: `${root}:/usr/bin:/bin` };
  const asked = askCredentialHelper({ ...place, root, environment }, "slow", "q.io", {
    timeoutMs: 100,
  });
  await expect(asked).rejects.toThrow(StateError);
  await expect(asked).rejects.toThrow(
    /^"docker-credential-slow get" for "q.io" took more than 0.1 s/,
  );
});
