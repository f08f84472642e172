// What is planned for which damage, where the tests with real repositories (test/integration) do not reach:
// fs-verity, several users, and everything that must not be removed.

import { describe, expect, test } from "vitest";
import type { ImageSurvey, LayerSurvey } from "./repair-image-survey.ts";
import { planRepair, stepKey } from "./repair-plan.ts";
import type { ImageUser } from "./repair-source.ts";
import type { Survey } from "./repair-survey.ts";
import type { ResolvedImage } from "./resolved-image.ts";

const USER: ImageUser = { label: "x", manifestDigest: "m1", reference: null, deploymentId: null };
const DOCUMENTS = { manifest: { config: { digest: "c" } } } as unknown as ResolvedImage;
const DESCRIPTOR = { mediaType: "", digest: "", size: 0 };

const layer = (change: Partial<LayerSurvey> = {}): LayerSurvey => ({
  diffId: "d",
  descriptor: DESCRIPTOR,
  linked: "s",
  stream: "s",
  damaged: [],
  isWrong: false,
  ...change,
});
const image = (change: Partial<ImageSurvey> = {}): ImageSurvey => ({
  manifestDigest: "m1",
  users: [USER],
  documents: DOCUMENTS,
  layers: [],
  hasStaleRefs: false,
  erofs: [],
  unlinked: [],
  ...change,
});
const survey = (change: Partial<Survey>): Survey => ({
  findings: [],
  bad: new Map(),
  images: [image()],
  roots: new Set(),
  misplaced: [],
  ...change,
});
const plan = (change: Partial<Survey>) => planRepair(survey(change), new Set());
const finding = (kind: string, path: string, object?: string) => {
  const found = { kind, path, problem: "", advice: "" };
  return object === undefined ? found : { ...found, object };
};

describe("order", () => {
  test("what only lacks fs-verity comes first: others may become readable by it", () => {
    const bad = new Map([
      ["a", "unsealed"],
      ["b", "damaged"],
    ] as const);
    const layers = [layer({ damaged: ["a", "b"] })];
    expect(plan({ bad, images: [image({ layers })] })).toEqual([
      { kind: "seal-object", object: "a" },
    ]);
  });

  test("images wait for layers that are not there, but not for files", () => {
    const erofs = [{ name: null, id: "e", state: "bad" }] as const;
    const fetch = (objects: string[] | null) => ({
      kind: "fetch-layer",
      image: "m1",
      diffId: "d",
      objects,
    });
    const missing = image({ erofs, layers: [layer({ stream: null, linked: null })] });
    expect(plan({ images: [missing] })).toEqual([fetch(null)]);
    const damaged = image({ erofs, layers: [layer({ damaged: ["f"] })] });
    expect(plan({ images: [damaged] })).toEqual([
      fetch(["f"]),
      { kind: "build-image", image: "m1", id: "e", name: null },
    ]);
  });
});

test("a layer of two images is fetched for the one that has users", () => {
  const layers = [layer({ damaged: ["f"] })];
  const images = [
    image({ manifestDigest: "unused", users: [], layers }),
    image({ layers }),
    image({ manifestDigest: "m2", layers }),
  ];
  const [step, ...others] = plan({ images });
  expect([step, others]).toEqual([
    { kind: "fetch-layer", image: "m1", diffId: "d", objects: ["f"] },
    [],
  ]);
  const [second] = planRepair(survey({ images }), new Set([stepKey(step!)]));
  expect(second).toMatchObject({ image: "m2" });
});

test("documents are fetched only for somebody", () => {
  const lost = image({ documents: null });
  expect(plan({ images: [lost] })).toEqual([{ kind: "fetch-documents", image: "m1" }]);
  expect(plan({ images: [{ ...lost, users: [] }] })).toEqual([]);
});

describe("garbage", () => {
  const findings = [
    finding("broken-symlink", "streams/oci-layer-d", "x"),
    finding("broken-symlink", "images/e", "e"),
    finding("broken-symlink", "streams/odd"),
    finding("broken-symlink", "streams/gone", "y"),
  ];
  const layers = [layer()];
  const erofs = [{ name: null, id: "e", state: "good" }] as const;

  test("is a link without an object that no image in use has", () => {
    const used = [image({ layers, erofs })];
    expect(plan({ findings, images: used })).toEqual([
      { kind: "remove-link", path: "streams/gone" },
    ]);
    expect(plan({ findings, images: [image({ layers, erofs, users: [] })] })).toHaveLength(3);
  });

  test("is not what a reference or deployment leads to", () => {
    const roots = new Set(["streams/gone", "images/e", "streams/oci-layer-d"]);
    expect(plan({ findings, roots })).toEqual([]);
  });

  test("is nothing when references or an image in use cannot be read", () => {
    expect(plan({ findings, roots: null })).toEqual([]);
    const key = stepKey({ kind: "fetch-documents", image: "m1" });
    const lost = survey({ findings, images: [image({ documents: null })] });
    expect(planRepair(lost, new Set([key]))).toEqual([]);
  });

  test("is a damaged object that is not a deployment's image", () => {
    const bad = new Map([
      ["o", "damaged"],
      ["e", "damaged"],
      ["missing", "damaged"],
    ] as const);
    const files = [
      finding("object-digest-mismatch", "objects/o", "o"),
      finding("object-digest-mismatch", "objects/e", "e"),
      finding("missing-object-ref", "streams/s", "missing"),
    ];
    const roots = new Set(["images/e"]);
    expect(plan({ findings: files, bad, roots })).toEqual([
      { kind: "remove-objects", objects: ["o"] },
    ]);
  });

  test("is not a damaged object that a layer needs, even when nobody has that layer any more", () => {
    const bad = new Map([["o", "damaged"]] as const);
    const layers = [layer({ damaged: ["o"] })];
    const damaged = survey({
      findings: [finding("object-digest-mismatch", "objects/o", "o")],
      bad,
      images: [image({ layers })],
    });
    const [fetch] = planRepair(damaged, new Set());
    expect(fetch?.kind).toBe("fetch-layer");
    expect(planRepair(damaged, new Set([stepKey(fetch!)]))).toEqual([]);
  });
});
