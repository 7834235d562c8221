// The functions of ../functions, with their types. `makeFunctionReference` gives a reference
// whose arguments and result TypeScript knows; nothing has to be generated.

import { makeFunctionReference as reference } from "convex/server";
import type { GenericId as Id } from "convex/values";

export type User = { _id: Id<"users">; _creationTime: number; name: string };
export type Letter = { _id: Id<"letters">; _creationTime: number; text: string };
export type Post = {
  _id: Id<"posts">;
  _creationTime: number;
  author: Id<"users">;
  author_name: string;
  place: string;
  text: string;
  likes: number;
  liked: boolean;
};

type Viewing = { viewer?: Id<"users">; limit?: number };
type Liking = { post_id: Id<"posts">; user_id: Id<"users"> };

export const api = {
  users: {
    get_user: reference<"query", { user_id: Id<"users"> }, User | null>("users:get_user"),
    sign_in: reference<"mutation", { name: string }, Id<"users">>("users:sign_in"),
  },
  posts: {
    list_posts: reference<"query", Viewing, Post[]>("posts:list_posts"),
    create_post: reference<"mutation", { author: Id<"users">; place: string; text: string }, Id<"posts">>(
      "posts:create_post",
    ),
    like: reference<"mutation", Liking, number>("posts:like"),
    unlike: reference<"mutation", Liking, number>("posts:unlike"),
  },
  welcome: {
    inbox: reference<"query", { user_id: Id<"users"> }, Letter[]>("welcome:inbox"),
    send_welcome: reference<"action", { user_id: Id<"users"> }, string>("welcome:send_welcome"),
  },
};
