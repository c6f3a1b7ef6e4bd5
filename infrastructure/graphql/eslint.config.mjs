import appsync from '@aws-appsync/eslint-plugin';

export default [{ languageOptions: { parserOptions: { projectService: true } } }, appsync.configs.recommended];
