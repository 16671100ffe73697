/** What one reader makes of the bytes of a connection; two readers that agree make the same of them. */
export interface Reading {
  messages: Message[];
  /** Why it read no further: the code of its error. Undefined when it waits for more, or when the last message says that it is the last. */
  refusal?: string;
}

export interface Message {
  /** The request line or the status line. */
  start: string;
  /** Names and values in turn. */
  fields: readonly string[];
  body: string;
  trailers: readonly string[];
  /** Its end has been found. */
  complete: boolean;
}
