import { expect, test } from "vitest";
import { makeImageTrust } from "../../test/support/image-trust.ts";
import { sign, trustKey } from "../../test/support/trust-place.ts";
import { findFloorTarget, type MenuDeployment } from "./floor-target.ts";

const idOf = (n: number) => `${n}`.repeat(128);
const vendor = makeImageTrust({ keys: ["vendor"] });
const next = makeImageTrust({ keys: ["next"] }).anchors;

function deployment(n: number, version: number, keys: readonly string[]): MenuDeployment {
  const document = Buffer.from(
    sign(
      idOf(n),
      keys.map((name) => trustKey(name)),
      { version },
    ),
  );
  return { id: idOf(n), document, anchors: vendor.anchors };
}

const booted = deployment(1, 7, ["vendor"]);
const expired = {
  ...booted,
  document: Buffer.from(
    sign(booted.id, [trustKey("vendor")], { version: 3, expires: "2020-01-01T00:00:00Z" }),
  ),
};
const revoking = makeImageTrust({ keys: ["vendor"], revoked: [`digest ${idOf(2)}`] });

test.each<[string, readonly MenuDeployment[], number | RegExp]>([
  ["the only one", [booted], 7],
  ["the rollback is lower", [booted, deployment(2, 5, ["vendor"])], 5],
  ["the rollback is higher", [booted, deployment(2, 9, ["vendor"])], 7],
  ["one of three, pinned", [booted, deployment(2, 5, ["vendor"]), deployment(3, 2, ["vendor"])], 2],
  [
    "an unlocked rollback has no version",
    [booted, { ...deployment(2, 5, ["vendor"]), document: null }],
    7,
  ],
  ["a statement for another image", [booted, { ...deployment(2, 5, ["vendor"]), id: idOf(3) }], 7],
  ["by nobody's key", [booted, deployment(2, 5, ["thief"])], 7],
  ["expired is not old", [expired], 3],
  [
    "a rollback that the running image cannot vouch for",
    [booted, { ...deployment(2, 5, ["next"]), anchors: next }],
    /by a key that the running image does not know/,
  ],
  ["nothing that counts", [{ ...booted, document: null }], /No deployment .* is signed/],
])("%s", (_, deployments, expected) => {
  const target = findFloorTarget(deployments, vendor);
  if (typeof expected === "number") expect(target).toMatchObject({ version: expected });
  else expect(target).toMatchObject({ kind: "wait", reason: expect.stringMatching(expected) });
});

test("what is revoked does not hold it back", () => {
  const deployments = [booted, deployment(2, 5, ["vendor"])];
  expect(findFloorTarget(deployments, revoking)).toMatchObject({ kind: "raise", version: 7 });
});

test("the document is that of the lowest one", () => {
  const low = deployment(2, 5, ["vendor"]);
  expect(findFloorTarget([booted, low], vendor)).toMatchObject({ document: low.document });
});

test("where each image has a key of its own, all of them count", () => {
  const own = makeImageTrust({ uki: { cmdline: null, keys: trustKey("build2").pub } });
  const before = makeImageTrust({ uki: { cmdline: null, keys: trustKey("build1").pub } }).anchors;
  const deployments = [
    { ...deployment(2, 7, ["build2"]), anchors: own.anchors },
    { ...deployment(1, 5, ["build1"]), anchors: before },
    { ...deployment(3, 2, ["thief"]), anchors: before },
  ];
  expect(findFloorTarget(deployments, own)).toMatchObject({ kind: "raise", version: 5 });
});
