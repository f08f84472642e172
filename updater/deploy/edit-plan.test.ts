import { expect, test } from "vitest";
import { type HostSpecification, planEdit } from "./edit-plan.ts";

const image = { transport: "registry", image: "quay.io/x/os:1" } as const;
const other = { transport: "oci", image: "/srv/os" } as const;
const host = (
  reference: HostSpecification["image"],
  bootOrder: HostSpecification["bootOrder"] = "default",
): HostSpecification => ({ image: reference, bootOrder });

test.each<[string, HostSpecification, HostSpecification, unknown]>([
  ["nothing", host(image), host({ ...image }), { kind: "unchanged" }],
  ["the image", host(image), host(other), { kind: "switch", reference: other }],
  ["an image where none was", host(null), host(other), { kind: "switch", reference: other }],
  [
    "how the image is checked",
    host(image),
    host({ ...image, signature: "containerPolicy" }),
    { kind: "switch", reference: { ...image, signature: "containerPolicy" } },
  ],
  ["the order", host(image), host(image, "rollback"), { kind: "rollback" }],
  ["the order back", host(image, "rollback"), host(image), { kind: "rollback" }],
])("%s was changed", (_, current, wanted, plan) => {
  expect(planEdit(current, wanted)).toEqual(plan);
});

test("both at once, and no image, are refused in bootc's words", () => {
  expect(() => planEdit(host(image), host(other, "rollback"))).toThrow(
    "Invalid state transition: rollback and image change",
  );
  expect(() => planEdit(host(image), host(null))).toThrow("Missing image in specification");
});
