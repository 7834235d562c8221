import { useMutation } from "convex/react";
import type { FunctionReturnType } from "convex/server";
import { api } from "./generated/api";
import type { Id } from "./generated/dataModel";

type Post = FunctionReturnType<typeof api.posts.list_posts>[number];
type Liking = { post_id: Id<"posts">; user_id: Id<"users"> };

export function PostCard({ post, viewer }: { post: Post; viewer: Id<"users"> | undefined }) {
  const like = useMutation(api.posts.like).withOptimisticUpdate((store, { post_id, user_id }: Liking) => {
    const posts = store.getQuery(api.posts.list_posts, { viewer: user_id });
    const liked = posts?.map((each) => (each._id === post_id ? { ...each, liked: true, likes: each.likes + 1 } : each));
    store.setQuery(api.posts.list_posts, { viewer: user_id }, liked);
  });
  const unlike = useMutation(api.posts.unlike);

  function toggle() {
    if (viewer === undefined) return;
    void (post.liked ? unlike : like)({ post_id: post._id, user_id: viewer });
  }

  return (
    <li className="card">
      <p className="soft">
        {post.author_name} · <time>{new Date(post._creationTime).toLocaleString()}</time>
      </p>
      <h2>{post.place}</h2>
      <p className="text">{post.text}</p>
      <button
        className="like"
        disabled={viewer === undefined}
        aria-pressed={post.liked}
        aria-label={`Like the post about ${post.place}: ${post.likes} so far`}
        onClick={toggle}
      >
        ♥ <span className="count">{post.likes}</span>
      </button>
    </li>
  );
}
