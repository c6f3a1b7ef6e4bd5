/**
 * Returns the input of a publishing mutation. AppSync sends it to those who have subscribed to it.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  return { payload: ctx.arguments.input };
}

/**
 * Returns what the function above has returned, because there is no data source.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function response(ctx) {
  return ctx.result;
}
