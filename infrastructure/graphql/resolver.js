import { util } from '@aws-appsync/utils';

const INTERNAL = 'something failed on our side; quote the correlation id when you report it';

/**
 * Passes a query or a mutation to the function of its data source: the field, the arguments and the identity of the
 * caller.
 *
 * A caller with the API key has no identity. The function checks scopes, roles and owners, because the directives of
 * the schema cannot. The correlation id is the header x-correlation-id of the caller, or a new id.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function request(ctx) {
  ctx.stash.correlationId = ctx.request.headers['x-correlation-id'] ?? util.autoId();
  return {
    operation: 'Invoke',
    payload: {
      field: ctx.info.fieldName,
      arguments: ctx.arguments,
      identity: ctx.identity ?? null,
      correlationId: ctx.stash.correlationId,
    },
  };
}

/**
 * Returns the data that the function answers, or raises its refusal as an error of GraphQL.
 *
 * The function answers `{data}`, or `{error: {type, message, …}}`. The other properties of the error become errorInfo.
 * If the function could not be invoked, crashed or timed out, the caller gets an InternalError without details.
 *
 * @param {import('@aws-appsync/utils').Context} ctx
 */
export function response(ctx) {
  if (ctx.error || !ctx.result) {
    util.error(INTERNAL, 'InternalError', null, { correlationId: ctx.stash.correlationId });
  }
  if (ctx.result.error) {
    const { type, message, ...info } = ctx.result.error;
    util.error(message, type, null, info);
  }
  return ctx.result.data;
}
