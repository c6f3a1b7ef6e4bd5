/**
 * Returns the input of a mutation that publishes. AppSync sends this input to the subscribers.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  return { payload: ctx.arguments.input };
}

/**
 * Returns the payload of `request`, because there is no data source.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function response(ctx) {
  return ctx.result;
}
