// web/weir.d.ts describes what the modules of web/weir/ export: the same names, the same members,
// and types that fit. tsc reads this file; nothing runs it.

import * as api from "../../../web/weir.js";
import * as modules from "../../../web/weir/index.js";

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

/** Names of what is exported. */
export const exported: Same<keyof typeof api, keyof typeof modules> = true;

/** Members of the classes. A private member is in neither. */
export const client: Same<keyof api.Client, keyof modules.Client> = true;
export const error: Same<keyof api.WeirError, keyof modules.WeirError> = true;
export const receiver: Same<keyof api.Receiver, keyof modules.Receiver> = true;
export const codec: Same<keyof typeof api.codec, keyof typeof modules.codec> = true;
type Reader<T extends { FrameReader: new (...given: any[]) => any }> = keyof InstanceType<T["FrameReader"]>;
export const reader: Same<Reader<typeof api.codec>, Reader<typeof modules.codec>> = true;

/** Only weir.d.ts has types for events. */
type WithoutEvents = Omit<api.Client, "addEventListener">;

/** Each function and class does for the types what weir.d.ts says. */
export const connect: (...given: Parameters<typeof api.connect>) => Promise<WithoutEvents> =
  modules.connect;
export const WeirError: new (...given: ConstructorParameters<typeof api.WeirError>) => api.WeirError =
  modules.WeirError;
export const Receiver: typeof api.Receiver = modules.Receiver;
export const codecs: typeof api.codec = modules.codec;

/** Parameters too: a method accepts all that weir.d.ts lets a page pass. */
type Method = "subscribe" | "get" | "top" | "ping" | "close";
export const methods = (given: modules.Client): Pick<api.Client, Method> => given;
