import { ConvexError } from "convex/values";
import { Component, type ReactNode } from "react";

/** Say what went wrong: an `AppError` of a function arrives as a `ConvexError` with its data. */
export function explain(error: unknown): string {
  if (error instanceof ConvexError) return (error.data as { message: string }).message;
  return error instanceof Error ? error.message : String(error);
}

/** `useQuery` throws what its query raised; this shows it in place of the component. */
export class Problem extends Component<{ children: ReactNode }, { error: unknown }> {
  state = { error: undefined };

  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  render() {
    return this.state.error === undefined ? this.props.children : <p role="alert">{explain(this.state.error)}</p>;
  }
}
