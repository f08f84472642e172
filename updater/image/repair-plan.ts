// From what is damaged to what can be done about it: plain data, and a pure function.
//
// Steps come in the order they depend on each other, and only those that can be taken now: a config must
// be there before its layers are known, layers before an image can be built from them. What was hidden
// behind them is planned by the next round. Everything but the last two kinds only adds or replaces what
// has the wrong content; those two remove what nothing refers to, and look again before they do.

import { configStreamName, layerStreamName, manifestStreamName } from "./image-streams.ts";
import type { ImageSurvey, LayerSurvey } from "./repair-image-survey.ts";
import type { MisplacedRef, Survey } from "./repair-survey.ts";

export type RepairStep =
  /** An intact file that lacks fs-verity is copied into one that has it. */
  | { readonly kind: "seal-object"; readonly object: string }
  /** Manifest and config, and layers nobody knows the content of. */
  | { readonly kind: "fetch-documents"; readonly image: string }
  /** `objects` null: the splitstream as well. */
  | {
      readonly kind: "fetch-layer";
      readonly image: string;
      readonly diffId: string;
      readonly objects: readonly string[] | null;
    }
  /** `name` is "streams/…" or "images/…". */
  | { readonly kind: "link-object"; readonly name: string; readonly object: string }
  /** Manifest and config streams with references to what there is now. */
  | { readonly kind: "write-references"; readonly image: string }
  | {
      readonly kind: "build-image";
      readonly image: string;
      readonly id: string;
      /** Of its reference, which says what kind of image it is; null when unknown. */
      readonly name: string | null;
    }
  /** A reference that is right but for the number of "..". */
  | ({ readonly kind: "point-reference" } & MisplacedRef)
  /** A name without an object that nothing needs. */
  | { readonly kind: "remove-link"; readonly path: string }
  /** Damaged, and nothing refers to them. */
  | { readonly kind: "remove-objects"; readonly objects: readonly string[] };

/** Identifies a step, so that one that failed is not taken again. */
export function stepKey(step: RepairStep): string {
  return JSON.stringify(step);
}

type Filter = (step: RepairStep) => boolean;

/** `useless` are keys of steps that did not work. Empty: nothing more can be done. */
export function planRepair(survey: Survey, useless: ReadonlySet<string>): readonly RepairStep[] {
  for (const plan of [planSeals, planImages, planReferences, planGarbage]) {
    const steps = plan(survey, (step) => !useless.has(stepKey(step)));
    const distinct = new Map(steps.map((step) => [stepKey(step), step]));
    if (distinct.size > 0) return [...distinct.values()];
  }
  return [];
}

function planSeals({ bad }: Survey, isUseful: Filter): RepairStep[] {
  return [...bad]
    .filter(([, state]) => state === "unsealed")
    .map(([object]): RepairStep => ({ kind: "seal-object", object }))
    .filter(isUseful);
}

function planImages({ images }: Survey, isUseful: Filter): RepairStep[] {
  const fetched = new Set<string>();
  // Those with users may have a source.
  const sorted = images.toSorted((a, b) => b.users.length - a.users.length);
  return sorted.flatMap((image): RepairStep[] => {
    if (image.documents === null) {
      const step: RepairStep = { kind: "fetch-documents", image: image.manifestDigest };
      return image.users.length > 0 && isUseful(step) ? [step] : [];
    }
    const layers = image.layers
      .filter(({ diffId }) => !fetched.has(diffId))
      .flatMap((layer) => planLayer(image, layer))
      .filter(isUseful);
    for (const step of layers) if (step.kind === "fetch-layer") fetched.add(step.diffId);
    const links = image.unlinked.map(
      ({ name, object }): RepairStep => ({ kind: "link-object", name: `streams/${name}`, object }),
    );
    const isComplete = image.layers.every(
      ({ stream, linked }) => stream !== null && stream === linked,
    );
    const dependents = links.length === 0 && isComplete ? planDependents(image) : [];
    return [...links.filter(isUseful), ...layers, ...dependents.filter(isUseful)];
  });
}

function planLayer(image: ImageSurvey, layer: LayerSurvey): RepairStep[] {
  const { diffId, stream, linked, damaged } = layer;
  const fetch = (objects: readonly string[] | null): RepairStep => ({
    kind: "fetch-layer",
    image: image.manifestDigest,
    diffId,
    objects,
  });
  if (stream === null) return [fetch(null)];
  const name = `streams/${layerStreamName(diffId)}`;
  return [
    ...(damaged.length > 0 ? [fetch(damaged)] : []),
    ...(stream === linked ? [] : [{ kind: "link-object", name, object: stream } as const]),
  ];
}

/** What is made from documents and layers. */
function planDependents(image: ImageSurvey): RepairStep[] {
  const { manifestDigest, hasStaleRefs, erofs } = image;
  const references: RepairStep = { kind: "write-references", image: manifestDigest };
  const images = erofs
    .filter(({ state }) => state !== "good")
    .map(
      ({ name, id, state }): RepairStep =>
        state === "bad"
          ? { kind: "build-image", image: manifestDigest, id, name }
          : { kind: "link-object", name: `images/${id}`, object: id },
    );
  return hasStaleRefs ? [references, ...images] : images;
}

function planReferences({ misplaced }: Survey, isUseful: Filter): RepairStep[] {
  return misplaced.map((ref): RepairStep => ({ kind: "point-reference", ...ref })).filter(isUseful);
}

function planGarbage(survey: Survey, isUseful: Filter): RepairStep[] {
  const { findings, images, bad, roots } = survey;
  // With an image in use that nobody can read there is no proof that anything is garbage.
  const isUnknown = images.some((image) => image.documents === null && isUsed(image));
  if (roots === null || isUnknown) return [];
  const needed = new Set([...roots, ...images.filter(isUsed).flatMap(namesOf)]);
  const links = findings
    .filter(({ kind, object }) => kind === "broken-symlink" && object !== undefined)
    .filter(({ path }) => !needed.has(path))
    .map(({ path }): RepairStep => ({ kind: "remove-link", path }))
    .filter(isUseful);
  if (links.length > 0) return links;
  const files = new Set(
    findings.filter(({ path }) => path.startsWith("objects/")).map(({ object }) => object),
  );
  // A layer whose source is gone still refers to them.
  const referred = new Set(images.flatMap(({ layers }) => layers).flatMap((each) => each.damaged));
  const objects = [...bad.keys()].filter(
    (object) => files.has(object) && !referred.has(object) && !needed.has(`images/${object}`),
  );
  const step: RepairStep = { kind: "remove-objects", objects };
  return objects.length > 0 && isUseful(step) ? [step] : [];
}

function isUsed({ users }: ImageSurvey): boolean {
  return users.length > 0;
}

/** Entries of streams/ and images/ that belong to an image. */
export function namesOf({ manifestDigest, documents, layers, erofs }: ImageSurvey): string[] {
  const streams = [
    manifestStreamName(manifestDigest),
    ...(documents === null ? [] : [configStreamName(documents.manifest.config.digest)]),
    ...layers.map(({ diffId }) => layerStreamName(diffId)),
  ];
  return [...streams.map((name) => `streams/${name}`), ...erofs.map(({ id }) => `images/${id}`)];
}
